"""Speed and memory of selections from ten thousand to a million rows, beside two rivals, in one run.

Each method runs in a process of its own on one compute thread; imports and making the data are not counted.
Rows are a mixture of groups on a 24-dimensional sheet with noise in all dimensions, brought to unit length.

    python benchmarks/scale.py --json scale.json
    python benchmarks/scale.py --cases 1280000x128x2911 --methods usl --repeats 1
    python benchmarks/scale.py --fidelity
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CASES = ("10000x128x400", "50000x128x400", "50000x512x400")
METHODS = ("usl", "sklearn", "port")
ONE_THREAD = {
    "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
}  # fmt: skip


def make_rows(n: int, d: int, *, folder: Path, seed: int = 0) -> Path:
    """Write (n, d) float32 unit-length rows as .npy, block by block, unless they are there."""
    path = folder / f"rows-{n}x{d}-{seed}.npy"
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    groups = max(50, n // 500)
    middle = rng.standard_normal((groups, 24), dtype=np.float32)
    sheet = rng.standard_normal((24, d), dtype=np.float32) / 5
    rows = np.lib.format.open_memmap(path.with_suffix(".part"), "w+", np.float32, (n, d))  # type: ignore[no-untyped-call]
    for begin in range(0, n, 65_536):
        count = min(65_536, n - begin)
        place = middle[rng.integers(groups, size=count)] + 0.7 * rng.standard_normal(
            (count, 24), dtype=np.float32
        )
        block = place @ sheet + 0.35 * rng.standard_normal((count, d), dtype=np.float32)
        rows[begin : begin + count] = block / np.linalg.norm(block, axis=1, keepdims=True)
    rows.flush()
    path.with_suffix(".part").rename(path)
    return path


class PeakMemory:
    """Peak of the anonymous memory of this process above its level at the start, in bytes."""

    def __enter__(self) -> PeakMemory:
        self._base = self._peak = self._now()
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            self._peak = max(self._peak, self._now())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watch.join()
        self.above = max(self._peak, self._now()) - self._base

    @staticmethod
    def _now() -> int:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
        raise SystemExit("/proc/self/status has no RssAnon: this benchmark needs Linux")


def run_one(method: str, path: Path, budget: int, k: int, repeats: int, mapped: bool) -> dict[str, Any]:
    """Run a method in this process."""
    import faiss  # noqa: F401 - loaded before the clock starts
    import threadpoolctl  # noqa: F401

    if method == "sklearn":
        import sklearn.cluster
        import sklearn.neighbors  # noqa: F401

    rows = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    runs = [run_once(method, rows, budget, k) for _ in range(repeats)]
    picks, steps = runs[-1][3:]
    return {
        "cpu": statistics.median(run[0] for run in runs),
        "wall": statistics.median(run[1] for run in runs),
        "above": max(run[2] for run in runs),
        "steps": {step: round(seconds, 2) for step, seconds in steps.items()},
        **judge(rows, picks),
    }


def run_once(
    method: str, rows: NDArray[np.float32], budget: int, k: int
) -> tuple[float, float, int, NDArray[np.int64], dict[str, float]]:
    """CPU seconds, wall seconds, bytes above the start, picks, and CPU seconds by step."""
    from scale_rivals import official_port, sklearn_pipeline

    from usl_backend.selection import USL

    steps: dict[str, float] = {}
    began, clock = time.process_time(), time.perf_counter()
    last = began

    def progress(step: str, _done: int, _total: int) -> None:
        nonlocal last
        now = time.process_time()
        steps[step] = steps.get(step, 0.0) + now - last
        last = now

    picks: NDArray[np.int64]
    with PeakMemory() as memory:
        if method == "usl":
            picks = USL(neighbors=k).select(rows, budget, rng=0, progress=progress).indices
        elif method == "sklearn":
            picks = sklearn_pipeline(rows, budget, k=k, seed=0)
        else:
            picks = official_port(rows, budget, k=k, seed=0)
    return time.process_time() - began, time.perf_counter() - clock, memory.above, picks, steps


def judge(rows: NDArray[np.float32], picks: NDArray[np.int64]) -> dict[str, float]:
    """Coverage and density of picks, over at most 20,000 rows in the space that the default selects in."""
    from usl_backend.selection import nearest_neighbors
    from usl_backend.selection.assignment import assign
    from usl_backend.selection.density import density
    from usl_backend.selection.rows import fit_projection

    some = np.unique(np.linspace(0, len(rows) - 1, 20_000).astype(np.int64))
    projection = fit_projection(rows, dimensions=128)
    known, chosen = projection.apply(rows[some]), projection.apply(rows[np.sort(picks)])
    covered = float(assign(known, chosen).distances.mean())
    both = np.concatenate([known, chosen])
    dense = density(nearest_neighbors(both, k=20, exact=True).distances, floor=1e-3)
    rank = np.searchsorted(np.sort(dense[: len(known)]), dense[len(known) :]) / len(known)
    return {"distance_to_pick": covered, "density_rank": float(np.median(rank))}


def run_case(case: str, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a method on a case in a process of its own."""
    n, d, budget = map(int, case.split("x"))
    path = make_rows(n, d, folder=options.folder)
    command = [
        sys.executable, __file__, "--one", method, "--path", str(path), "--budget", str(budget), "--k", str(options.k),
        "--repeats", str(options.repeats), "--mapped" if d > 256 and n > 500_000 else "--loaded",
    ]  # fmt: skip
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{method} on {case} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"case": case, "method": method, "k": options.k} | result


def fidelity(folder: Path, embeddings: Path | None) -> Iterator[dict[str, Any]]:
    """k-means objective beside scikit-learn's, and density arg-max per cluster beside that of exact neighbors."""
    from sklearn.cluster import KMeans

    from usl_backend.selection import nearest_neighbors
    from usl_backend.selection.density import density
    from usl_backend.selection.kmeans import kmeans
    from usl_backend.selection.picking import cluster_argmax
    from usl_backend.selection.rows import fit_projection
    from usl_backend.selection.threads import one_thread

    def same_picks(rows: NDArray[np.float32], clusters: int) -> float:
        labels = kmeans(rows, clusters=clusters, rng=np.random.default_rng(0)).labels
        best = [
            cluster_argmax(
                density(nearest_neighbors(rows, k=20, exact=exact).distances), labels, clusters=clusters
            )
            for exact in (True, False)
        ]
        return float((best[0] == best[1]).mean())

    with one_thread():
        if embeddings is not None:
            held = np.load(embeddings, allow_pickle=False)
            rows = fit_projection(held, dimensions=128).apply(held)
            for clusters in (40, 100, 400):
                name = f"density arg-max as with exact neighbors, {embeddings.name}, {clusters} clusters, >= 0.98"
                yield {"figure": name, "value": same_picks(rows, clusters)}
        rows = np.load(make_rows(50_000, 128, folder=folder), allow_pickle=False)
        ours = [kmeans(rows, clusters=400, rng=np.random.default_rng(seed)).inertia for seed in range(5)]
        peers = [KMeans(400, n_init=1, random_state=seed).fit(rows).inertia_ for seed in range(5)]
        ratio = float(np.mean(ours) / np.mean(peers))
        yield {"figure": "k-means objective / scikit-learn's, 50k, <= 1.005", "value": ratio}
        for n, clusters, least in ((50_000, 400, 0.98), (200_000, 1000, 0.99)):
            rows = np.load(make_rows(n, 128, folder=folder), allow_pickle=False)
            name = f"density arg-max as with exact neighbors, {n:,}, >= {least}"
            yield {"figure": name, "value": same_picks(rows, clusters)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=list(CASES), help="ROWSxDIMENSIONSxBUDGET")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--k", type=int, default=20, help="neighbors, of every method")
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median counts")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where rows are written"
    )
    parser.add_argument(
        "--fidelity", action="store_true", help="objective and picks beside exact peers instead"
    )
    parser.add_argument("--embeddings", type=Path, help="real rows (.npy) that --fidelity looks at too")
    parser.add_argument("--json", type=Path, help="write figures here")
    parser.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--mapped", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--loaded", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(
            json.dumps(
                run_one(options.one, options.path, options.budget, options.k, options.repeats, options.mapped)
            )
        )
        return
    records: list[dict[str, Any]] = []
    if options.fidelity:
        for record in fidelity(options.folder, options.embeddings):
            records.append(record)
            print(f"{record['figure']}: {record['value']:.4f}", flush=True)
    else:
        print(
            f"{'case':20s} {'method':8s} {'CPU s':>8s} {'wall s':>8s} {'MB':>6s} {'to pick':>8s} {'density':>8s} ratio"
        )
        for case in options.cases:
            own = 0.0
            for method in options.methods:
                found = run_case(case, method, options)
                records.append(found)
                own = found["cpu"] if method == "usl" else own
                print(
                    f"{case:20s} {method:8s} {found['cpu']:8.2f} {found['wall']:8.2f} {found['above'] / 1e6:6.0f} "
                    f"{found['distance_to_pick']:8.4f} {found['density_rank']:8.3f} "
                    f"{found['cpu'] / own if own else float('nan'):.2f}  {found['steps'] or ''}",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(records), encoding="utf-8")


if __name__ == "__main__":
    main()

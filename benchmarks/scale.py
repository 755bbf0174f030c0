"""Speed and memory of USL and USL-T from ten thousand to five million rows, beside two rivals of USL.

Each run has a process of its own on one compute thread (`OMP_WAIT_POLICY=passive`); imports and making the data are
not counted. Rows are a mixture of groups on a 24-dimensional sheet with noise in all dimensions, brought to unit
length. The default looks at 12 neighbors of 10,000 rows with 400 picks and at 20 in the other rows of the table.

    python benchmarks/scale.py --rows 10k 50k --json scale.json
    python benchmarks/scale.py --rows 1.28M --repeats 1 --json scale.json
    python benchmarks/scale.py --rows 60k-trained --json scale.json
    python benchmarks/scale.py --show --json scale.json

Every run is kept in the JSON file as it ends; what is there already is not run again. Objective and distance to the
nearest pick are means of squared distances over at most 20,000 rows in the space that the default selects in; density
is the median rank of the picks among these rows. How faithful picks are is measured by `fidelity.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rivals import Choice, official_port, sklearn_pipeline

ONE_THREAD = {
    "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
}  # fmt: skip
GB = 1e9


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    n, d, budget
        Rows, dimensions, picks.
    method
        Ours: "usl" or "usl-t".
    rivals
        Methods run beside ours.
    ratio
        Rival -> its CPU seconds over ours, at least.
    seconds
        CPU seconds of ours, at most.
    memory
        Bytes of ours above what the embeddings take, at most.
    half
        float16 on disk instead of float32.
    mapped
        Embeddings stay on disk.
    workers
        Compute threads of ours.
    """

    n: int
    d: int
    budget: int
    method: str = "usl"
    rivals: tuple[str, ...] = ()
    ratio: tuple[tuple[str, float], ...] = ()
    seconds: float = math.inf
    memory: float = math.inf
    half: bool = False
    mapped: bool = False
    workers: int = 1


BOTH = ("sklearn", "port")
TABLE = {
    "10k": Row(10_000, 128, 400, rivals=BOTH, ratio=(("sklearn", 1.3),)),
    "50k-few": Row(50_000, 128, 100),
    "50k": Row(50_000, 128, 400, rivals=BOTH, ratio=(("sklearn", 8.0), ("port", 8.0))),
    "50k-wide": Row(50_000, 512, 400, rivals=BOTH, ratio=(("sklearn", 10.0),)),
    "1.28M": Row(1_280_000, 128, 2911, seconds=100, memory=3 * GB),
    "1.28M-wide": Row(1_280_000, 512, 2911, seconds=150, memory=4 * GB, mapped=True),
    "1.28M-many": Row(1_280_000, 128, 12_820, seconds=250),
    "0.5M-half": Row(500_000, 256, 10_000, half=True, mapped=True),
    "1M-half": Row(1_000_000, 256, 10_000, half=True, mapped=True),
    "2M-half": Row(2_000_000, 256, 10_000, half=True, mapped=True),
    "5M-half": Row(5_000_000, 256, 10_000, memory=6 * GB, half=True, mapped=True),
    "60k-trained": Row(60_000, 1280, 40, method="usl-t", seconds=300, memory=2 * GB, workers=2),
}
DEFAULT_ROWS = ("10k", "50k", "50k-wide")
METHODS = ("usl", "usl-t", *BOTH)


def make_rows(n: int, d: int, *, folder: Path, half: bool = False, seed: int = 0) -> Path:
    """Write (n, d) unit-length rows, float32 or float16, as .npy, block by block, unless they are there."""
    path = folder / f"rows-{n}x{d}-{seed}{'-half' if half else ''}.npy"
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    groups = max(50, n // 500)
    middle = rng.standard_normal((groups, 24), dtype=np.float32)
    sheet = rng.standard_normal((24, d), dtype=np.float32) / 5
    kind = np.float16 if half else np.float32
    rows = np.lib.format.open_memmap(path.with_suffix(".part"), "w+", kind, (n, d))  # type: ignore[no-untyped-call]
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
    """Peak of the anonymous memory of this process, in bytes: `above` its level at the start, and `whole`.

    Pages of memory-mapped files are not counted: the system drops them when it needs the room.
    """

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
        self.whole = max(self._peak, self._now())
        self.above = self.whole - self._base

    @staticmethod
    def _now() -> int:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
        raise SystemExit("/proc/self/status has no RssAnon: this benchmark needs Linux")


def run_here(row: Row, method: str, path: Path) -> dict[str, Any]:
    """Run a method on a row of the table in this process."""
    import threadpoolctl  # noqa: F401 - loaded before the clock starts

    from usl_backend.selection import make

    if method == "port":
        import faiss  # noqa: F401
    if method == "usl-t":
        import torch  # noqa: F401
    if method == "sklearn":
        import sklearn.cluster
        import sklearn.neighbors  # noqa: F401

    rows = np.load(path, mmap_mode="r" if row.mapped else None, allow_pickle=False)
    steps: dict[str, float] = {}
    began, clock = time.process_time(), time.perf_counter()
    last = began

    def progress(step: str, _done: int, _total: int) -> None:
        nonlocal last
        now = time.process_time()
        steps[step] = steps.get(step, 0.0) + now - last
        last = now

    with PeakMemory() as memory:
        if method == "sklearn":
            found = sklearn_pipeline(rows, row.budget, k=20, seed=0)
        elif method == "port":
            found = official_port(rows, row.budget, k=20, seed=0)
        else:
            own = make(method, options={"workers": row.workers})
            chosen = own.select(rows, row.budget, rng=0, progress=progress)
            found = Choice(chosen.indices, chosen.cluster)
    return {
        "cpu": time.process_time() - began, "wall": time.perf_counter() - clock, "above": memory.above,
        "whole": memory.whole, "steps": {step: round(seconds, 2) for step, seconds in steps.items()},
        **judge(rows, found),
    }  # fmt: skip


def judge(rows: NDArray[np.floating[Any]], found: Choice) -> dict[str, float]:
    """Compute objective, coverage and density of picks, over at most 20,000 rows in the space of the default."""
    from usl_backend.selection import nearest_neighbors
    from usl_backend.selection.rows.assignment import assign, cluster_sums
    from usl_backend.selection.rows.density import density
    from usl_backend.selection.rows.preparation import fit_projection

    some = np.unique(np.linspace(0, len(rows) - 1, 20_000).astype(np.int64))
    projection = fit_projection(rows, dimensions=128)
    known, chosen = projection.apply(rows[some]), projection.apply(rows[np.sort(found.picks)])
    # Means of all rows of a cluster, not of those looked at: small clusters would look tight.
    count = int(found.clusters.max()) + 1
    sums, mass = np.zeros((count, known.shape[1])), np.zeros(count)
    for begin in range(0, len(rows), 65_536):
        block = slice(begin, begin + 65_536)
        part, members = cluster_sums(projection.apply(rows[block]), found.clusters[block], clusters=count)
        sums += part
        mass += members
    means = sums / np.maximum(mass, 1.0)[:, None]
    apart = known - means[found.clusters[some]]
    both = np.concatenate([known, chosen])
    dense = density(nearest_neighbors(both, k=20, exact=True).distances, floor=1e-3)
    rank = np.searchsorted(np.sort(dense[: len(known)]), dense[len(known) :]) / len(known)
    return {
        "objective": float(np.einsum("ij,ij->i", apart, apart).mean()),
        "distance_to_pick": float(assign(known, chosen).distances.mean()),
        "density_rank": float(np.median(rank)),
    }


def run_apart(name: str, method: str, folder: Path) -> dict[str, Any]:
    """Run a method on a row of the table in a process of its own."""
    row = TABLE[name]
    path = make_rows(row.n, row.d, folder=folder, half=row.half)
    command = [sys.executable, __file__, "--one", method, "--rows", name, "--path", str(path)]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{method} on {name} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"row": name, "method": method} | result


def middle(runs: Sequence[dict[str, Any]], figure: str) -> float:
    """Return the median of a figure over runs."""
    return float(statistics.median(run[figure] for run in runs))


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Make the lines of the table: medians over the runs of each row and method, and whether each bar holds."""
    head = (
        "row        ",
        "method  ",
        "runs",
        "   CPU s",
        "  wall s",
        "    GB",
        "objective",
        " to pick",
        " density",
        "ratio",
    )
    lines = [" ".join(head)]
    for name, row in TABLE.items():
        of = {
            method: [run for run in runs if (run["row"], run["method"]) == (name, method)]
            for method in METHODS
        }
        ours = of[row.method]
        if not ours:
            continue
        own = middle(ours, "cpu")
        for method in (method for method in METHODS if of[method]):
            some = of[method]
            lines.append(
                f"{name:11s} {method:8s} {len(some):4d} {middle(some, 'cpu'):8.2f} {middle(some, 'wall'):8.2f} "
                f"{max(run['above'] for run in some) / GB:6.2f} {middle(some, 'objective'):9.4f} "
                f"{middle(some, 'distance_to_pick'):8.4f} {middle(some, 'density_rank'):8.3f} "
                f"{middle(some, 'cpu') / own:.2f}"
            )
        bars = [
            (
                f"{rival} / ours >= {least:g}",
                middle(of[rival], "cpu") / own,
                middle(of[rival], "cpu") >= least * own,
            )
            for rival, least in row.ratio
            if of[rival]
        ]
        # Of rows that are mapped from float16 the whole process counts: the limit is that of a machine.
        memory = max(run["whole" if row.half else "above"] for run in ours)
        if math.isfinite(row.seconds):
            bars.append((f"CPU s <= {row.seconds:g}", own, own <= row.seconds))
        if math.isfinite(row.memory):
            bars.append((f"GB <= {row.memory / GB:g}", memory / GB, memory <= row.memory))
        lines += [f"  {'holds' if holds else 'FAILS'}  {bar}: {value:.2f}" for bar, value, holds in bars]
    growth = [(row.n, [run for run in runs if run["row"] == name]) for name, row in TABLE.items() if row.half]
    known = [(n, middle(some, "cpu")) for n, some in growth if some]
    if len(known) > 1:
        sizes, seconds = np.log(np.array(known)).T
        lines.append(
            f"CPU seconds grow as rows^{np.polyfit(sizes, seconds, 1)[0]:.2f} over {len(known)} sizes"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", default=list(DEFAULT_ROWS), choices=TABLE, help="of the table")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the median counts")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where rows are written"
    )
    parser.add_argument("--json", type=Path, help="where runs go as they end; what it holds is not run again")
    parser.add_argument("--show", action="store_true", help="only show what --json holds")
    parser.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_here(TABLE[options.rows[0]], options.one, options.path)))
        return
    runs: list[dict[str, Any]] = []
    if options.json and options.json.exists():
        runs = json.loads(options.json.read_text(encoding="utf-8"))
    wanted = [] if options.show else options.rows
    for name in wanted:
        for repeat in range(options.repeats):
            for method in (m for m in (TABLE[name].method, *TABLE[name].rivals) if m in options.methods):
                if sum((run["row"], run["method"]) == (name, method) for run in runs) > repeat:
                    continue
                runs.append(run_apart(name, method, options.folder))
                print(
                    f"{name} {method} run {repeat + 1}: {runs[-1]['cpu']:.2f} CPU s {runs[-1]['steps'] or ''}",
                    flush=True,
                )
                if options.json:
                    options.json.write_text(json.dumps(runs, indent=1), encoding="utf-8")
    print("\n".join(table(runs)))


if __name__ == "__main__":
    main()

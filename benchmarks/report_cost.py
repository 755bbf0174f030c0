"""CPU seconds and memory of a large run's report, part by part, and how well its map keeps neighbors together.

The run is made of rows on a 24-dimensional sheet, as those of `scale.py`; then each report has a process of its own on
one compute thread, imports included. Memory is the peak of the whole process (VmHWM). Of 2,000 tasks spread over the
map it counts how many of their 20 nearest rows are among their 50 nearest points. With --against, a folder that holds
another version of the package, both choose from the same rows and make their reports in turn.

    python benchmarks/report_cost.py --instances 100000 --budget 500 --against FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
DIMENSIONS = 128
JUDGED, NEAR, AMONG = 2_000, 20, 50
"""Tasks that are looked at, their nearest rows, and the nearest points among which these are looked for."""


def make_run(directory: Path, rows: NDArray[np.float32], budget: int) -> str:
    """Make a finished run without a report; return its id."""
    from usl_backend.instances import Instance, Pool
    from usl_backend.runs import RunStore
    from usl_backend.selection import USL
    from usl_backend.settings import RunSettings

    inventory: Any
    summary: Any
    try:
        from usl_backend.runs.inventory import Inventory
        from usl_backend.runs.summary import Summary

        inventory, summary = Inventory(), Summary(picks=budget)
    except ImportError:  # earlier versions had plain dicts here
        inventory, summary = {}, {"picks": budget}

    store = RunStore(directory)
    settings = RunSettings.resolve(explicit={"budget": budget}, environ={})
    run = store.create(project=1, settings=settings.to_json())
    store.claim(run.id)
    files = store.files(run.id)
    ids = np.arange(1, len(rows) + 1)
    files.write_instances([Instance(int(i), "image", f"/data/upload/1/{i:06d}.jpg") for i in ids], inventory)
    files.write_pool(Pool(ids, rows), ["00" * 32] * len(rows))
    selection = USL().select(rows, budget, rng=0)
    files.write_selection(selection)
    store.finish(run.id, summary)
    store.close()
    return run.id


def report_here(directory: Path) -> dict[str, Any]:
    """Make the report of the directory's run in this process."""
    began = time.process_time()
    from usl_backend.report import build
    from usl_backend.report.record import load_map
    from usl_backend.runs import RunStore

    store = RunStore(directory)
    run = store.list(limit=1)[0]
    files = store.files(run.id)
    steps: dict[str, float] = {}
    name, since = "reading", began

    def progress(step: str, *_: int) -> None:
        nonlocal name, since
        now = time.process_time()
        steps[name] = round(steps.get(name, 0.0) + now - since, 2)
        name, since = step, now

    report = build(run, files, force=True, progress=progress)
    progress("")
    whole = time.process_time() - began
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    points = load_map(files)
    if points is None:
        raise SystemExit("the report has no map")
    rows = np.asarray(files.read_pool()[0].embeddings, dtype=np.float32)[points.ids - 1]
    store.close()
    return {
        "cpu": round(whole, 2),
        "peak_megabytes": round(peak / 1e6),
        "steps": steps,
        "method": report.map.method,
        "kept": kept_neighbors(rows, points.points),
    }


def kept_neighbors(rows: NDArray[np.float32], points: NDArray[np.float32]) -> float:
    """Return the share of the nearest rows that are among the nearest points, over evenly spaced rows."""
    some = np.linspace(0, len(rows) - 1, JUDGED).astype(np.int64)

    def nearest(table: NDArray[Any], count: int) -> NDArray[np.int64]:
        found = np.empty((len(some), count), dtype=np.int64)
        norms = np.einsum("ij,ij->i", table, table)
        for begin in range(0, len(some), 100):
            mine = some[begin : begin + 100]
            apart = norms - 2.0 * (table[mine] @ table.T)
            apart[np.arange(len(mine)), mine] = np.inf
            found[begin : begin + 100] = np.argpartition(apart, count, axis=1)[:, :count]
        return found

    near, shown = nearest(rows, NEAR), nearest(points.astype(np.float64), AMONG)
    shares = [len(np.intersect1d(ours, theirs)) / NEAR for ours, theirs in zip(near, shown, strict=True)]
    return round(float(np.mean(shares)), 4)


def apart(mode: str, directory: Path, package: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make the run or its report in a process of its own, with the package of a folder."""
    command = [sys.executable, __file__, "--only", mode, "--directory", str(directory)]
    command += ["--instances", str(options.instances), "--budget", str(options.budget)]
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(package)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the {mode} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=1, help="reports of each version, in turn")
    parser.add_argument("--against", type=Path, help="a folder that holds another version of the package")
    parser.add_argument("--directory", type=Path, help="where the runs are kept, and found again")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("run", "report"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only == "run":
        rows = np.load(options.directory.parent / "rows.npy", allow_pickle=False)
        print(json.dumps({"run": make_run(options.directory, rows, options.budget)}))
        return
    if options.only == "report":
        print(json.dumps(report_here(options.directory)))
        return
    # not at the top: it loads more of the package than other versions have
    from scale import make_rows

    with tempfile.TemporaryDirectory() as name:
        directory = (options.directory or Path(name)).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / "rows.npy").exists():
            make_rows(options.instances, DIMENSIONS, folder=directory).rename(directory / "rows.npy")
        packages = {"this": Path(__file__).resolve().parents[1]}
        if options.against:
            packages["other"] = options.against.resolve()
        for version, package in packages.items():
            if not (directory / version).exists():
                (directory / version).mkdir()
                apart("run", directory / version, package, options)
        found: list[dict[str, Any]] = []
        for _ in range(options.rounds):
            for version, package in packages.items():
                one = {"version": version} | apart("report", directory / version, package, options)
                found.append(one)
                print(
                    f"{version:5} {one['cpu']:6.1f} CPU s {one['peak_megabytes']:5} MB; {one['method']} keeps "
                    f"{one['kept']:.1%} of {NEAR} neighbors; "
                    + ", ".join(f"{step} {seconds:.1f}" for step, seconds in one["steps"].items()),
                    flush=True,
                )
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

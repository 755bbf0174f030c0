"""Time and memory of USL-T in mode "heads": a large pool of wide embeddings, from rows to picks.

python benchmarks/uslt_scale.py --rows 60000 --dimensions 1280 --budget 40 --json uslt_scale.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usl_backend.cpus import usable_cpus
from usl_backend.selection import USLT

MIB = 1 << 20


def embeddings(rows: int, dimensions: int) -> NDArray[np.float32]:
    """Unit-length rows around 300 centres of unequal size, made in blocks."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(300, dimensions)).astype(np.float32)
    share = rng.random(300) + 0.1
    made = np.empty((rows, dimensions), dtype=np.float32)
    for begin in range(0, rows, 4096):
        part = made[begin : begin + 4096]
        kinds = rng.choice(300, len(part), p=share / share.sum())
        part[:] = centers[kinds] + 1.5 * rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return made


def peak() -> int:
    """Largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dimensions", type=int, default=1280)
    parser.add_argument("--budget", type=int, default=40)
    parser.add_argument("--workers", type=int, default=usable_cpus())
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    rows = embeddings(options.rows, options.dimensions)
    before, steps = peak(), dict[str, float]()
    began, processor = time.monotonic(), time.process_time()
    last = began

    def told(step: str, _done: int, _total: int) -> None:
        nonlocal last
        now = time.monotonic()
        steps[step] = steps.get(step, 0.0) + now - last
        last = now

    selection = USLT(workers=options.workers).select(rows, options.budget, rng=0, progress=told)
    figures = {
        "rows": options.rows, "dimensions": options.dimensions, "budget": options.budget,
        "wall_s": round(time.monotonic() - began, 1), "cpu_s": round(time.process_time() - processor, 1),
        "above_embeddings_mib": round((peak() - before) / MIB), "load": os.getloadavg()[0],
        "steps_s": {step: round(seconds, 1) for step, seconds in steps.items()},
        "clusters_in_use": selection.diagnostics["training"]["clusters_in_use"],
        "machine": f"{options.workers} x {platform.machine()}",
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    if (options.rows, options.dimensions, options.budget) == (60_000, 1280, 40):
        holds = figures["wall_s"] <= 300 and figures["above_embeddings_mib"] <= 2048
        print("holds" if holds else "FAILS", " at most 5 minutes and 2 GB above the embeddings")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

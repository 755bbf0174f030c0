"""Our k-means beside those of faiss and scikit-learn: CPU seconds and inertia on the same rows, one thread.

    python benchmarks/kmeans_rivals.py

Rows are those of `scale.py`: groups on a 24-dimensional sheet with noise, of unit length. Each method starts once per
seed; ours and scikit-learn's stop when they have settled, faiss after its default of 25 steps. Inertia is computed
here, in float64, from the centers that a method returns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# before numpy and faiss are imported: they read it once
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import numpy as np
from numpy.typing import NDArray
from scale import make_rows

from usl_backend.selection.rows.kmeans import kmeans

Rows = NDArray[np.float32]
Method = Callable[[Rows, int, int], NDArray[Any]]
"""(rows, clusters, seed) -> centers."""


def ours(rows: Rows, clusters: int, seed: int) -> NDArray[Any]:
    return kmeans(
        rows, clusters=clusters, rng=np.random.default_rng(seed), restarts=1, iterations=20, workers=1
    ).centers


def by_faiss(rows: Rows, clusters: int, seed: int) -> NDArray[Any]:
    import faiss

    found = faiss.Kmeans(rows.shape[1], clusters, seed=seed + 1)
    found.train(rows)
    return np.asarray(found.centroids)


def by_sklearn(rows: Rows, clusters: int, seed: int) -> NDArray[Any]:
    from sklearn.cluster import KMeans

    return np.asarray(KMeans(clusters, n_init=1, random_state=seed).fit(rows).cluster_centers_)


METHODS: dict[str, Method] = {"usl-backend": ours, "faiss": by_faiss, "scikit-learn": by_sklearn}


def inertia(rows: Rows, centers: NDArray[Any]) -> float:
    """Sum the squared distances to the nearest center."""
    exact = centers.astype(np.float64)
    half, total = (exact**2).sum(axis=1) / 2, 0.0
    for begin in range(0, len(rows), 4096):
        block = rows[begin : begin + 4096].astype(np.float64)
        total += float(((block**2).sum(axis=1) - 2 * (block @ exact.T - half).max(axis=1)).sum())
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = np.load(make_rows(options.rows, options.dimensions, folder=Path(folder)), allow_pickle=False)
    for method in METHODS.values():
        method(rows[:2000], 10, 0)  # imports and warm-up do not count
    told: dict[str, dict[str, float]] = {}
    print(f"| {options.rows:,} x {options.dimensions}, {options.clusters} clusters | CPU s | inertia |")
    print("|---|---|---|")
    for name, method in METHODS.items():
        seconds, inertias = [], []
        for seed in range(options.seeds):
            began = time.process_time()
            centers = method(rows, options.clusters, seed)
            seconds.append(time.process_time() - began)
            inertias.append(inertia(rows, centers))
        told[name] = {"cpu_seconds": statistics.median(seconds), "inertia": statistics.fmean(inertias)}
        print(f"| {name} | {told[name]['cpu_seconds']:.1f} | {told[name]['inertia']:,.0f} |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

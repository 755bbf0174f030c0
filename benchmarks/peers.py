"""USL beside what other packages offer: CPU seconds, memory and coverage of as many picks from the same rows.

    python benchmarks/peers.py --rows 10000 --picks 400
    python benchmarks/peers.py --rows 50000 --picks 100 --peers usl faiss minibatch
    pip install kmedoids apricot-select scikit-activeml lightly-mundig

Packages that are not installed are left out. Rows are those of `scale.py`, centered and of unit length. Each peer has a
process of its own on one compute thread; imports and making the data are not counted. Peers that give centers pick the
nearest rows to them. Coverage is the mean squared distance of a row to its nearest pick: lower = better.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scale import ONE_THREAD, PeakMemory, make_rows

from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.threads import row_blocks

Peer = Callable[[NDArray[np.float32], int, int], NDArray[np.int64]]
"""(rows, budget, seed) -> picks."""


def _by_usl(rows: NDArray[np.float32], budget: int, seed: int) -> NDArray[np.int64]:
    from usl_backend.selection import USL

    return USL().select(rows, budget, rng=seed).indices


def _by_faiss(rows: NDArray[np.float32], budget: int, seed: int) -> NDArray[np.int64]:
    import faiss

    found = faiss.Kmeans(rows.shape[1], budget, seed=seed + 1)
    found.train(rows)
    return _nearest_rows(np.asarray(found.centroids), rows)


def _by_minibatch(rows: NDArray[np.float32], budget: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import MiniBatchKMeans

    return _nearest_rows(
        MiniBatchKMeans(budget, n_init="auto", random_state=seed).fit(rows).cluster_centers_, rows
    )


def _by_sklearn(rows: NDArray[np.float32], budget: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans

    return _nearest_rows(KMeans(budget, n_init="auto", random_state=seed).fit(rows).cluster_centers_, rows)


def _by_kmedoids(rows: NDArray[np.float32], budget: int, seed: int) -> NDArray[np.int64]:
    import kmedoids

    apart = squared_distances(rows, rows)
    return np.asarray(kmedoids.fasterpam(apart, budget, random_state=seed, n_cpu=1).medoids, dtype=np.int64)


def _by_apricot(rows: NDArray[np.float32], budget: int, seed: int) -> NDArray[np.int64]:
    from apricot import FacilityLocationSelection

    chosen = FacilityLocationSelection(budget, metric="euclidean", optimizer="lazy", random_state=seed).fit(
        rows
    )
    return np.asarray(chosen.ranking, dtype=np.int64)


def _by_typiclust(rows: NDArray[np.float32], budget: int, seed: int) -> NDArray[np.int64]:
    from skactiveml.pool import TypiClust

    unlabeled = np.full(len(rows), np.nan)
    return np.asarray(TypiClust(random_state=seed).query(rows, unlabeled, batch_size=budget), dtype=np.int64)


def _by_lightly(rows: NDArray[np.float32], budget: int, seed: int) -> NDArray[np.int64]:
    del seed
    from lightly_mundig import Selection as Engine

    engine = Engine()
    engine.add_diversifying_strategy(rows, 1.0)
    return np.asarray(engine.run_selection([], len(rows), budget), dtype=np.int64)


PEERS: dict[str, tuple[str, str, Peer]] = {
    "usl": ("usl", "threadpoolctl", _by_usl),
    "faiss": ("faiss k-means, nearest rows", "faiss", _by_faiss),
    "minibatch": ("scikit-learn MiniBatchKMeans, nearest rows", "sklearn.cluster", _by_minibatch),
    "sklearn": ("scikit-learn KMeans, nearest rows", "sklearn.cluster", _by_sklearn),
    "kmedoids": ("kmedoids fasterpam", "kmedoids", _by_kmedoids),
    "apricot": ("apricot facility location", "apricot", _by_apricot),
    "typiclust": ("scikit-activeml TypiClust", "skactiveml.pool", _by_typiclust),
    "lightly": ("lightly-mundig diversity", "lightly_mundig", _by_lightly),
}
"""Peer -> its name in the table, the module it needs, and the selection."""


def _nearest_rows(centers: NDArray[Any], rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Find the row nearest to each center."""
    best = np.empty(len(centers), dtype=np.int64)
    norms = (rows**2).sum(axis=1) / 2
    for block in row_blocks(len(centers), size=128):
        best[block] = (centers[block].astype(np.float32) @ rows.T - norms).argmax(axis=1)
    return best


def coverage(rows: NDArray[np.float32], picks: NDArray[np.int64]) -> float:
    """Mean squared distance of a row to its nearest pick."""
    total = 0.0
    for block in row_blocks(len(rows), size=4096):
        total += float(squared_distances(rows[block], rows[picks]).min(axis=1).sum())
    return total / len(rows)


def _run_peer(peer: str, path: Path, budget: int, seeds: int) -> dict[str, float]:
    """Run a peer in this process, once per seed: medians of CPU seconds and coverage, peak of the memory."""
    _, module, choose = PEERS[peer]
    importlib.import_module(module)
    rows = np.load(path, allow_pickle=False)
    choose(rows[:1000], 10, 0)  # what is compiled or loaded at the first call does not count
    seconds, covered, above = [], [], []
    for seed in range(seeds):
        with PeakMemory() as memory:
            began = time.process_time()
            picks = choose(rows, budget, seed)
            seconds.append(time.process_time() - began)
        covered.append(coverage(rows, picks))
        above.append(memory.above)
    return {
        "cpu": statistics.median(seconds), "coverage": statistics.fmean(covered), "above": max(above) / 1e9,
        "picks": float(len(np.unique(picks))),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--picks", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--one", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_run_peer(options.one, options.path, options.picks, options.seeds)))
        return
    print(f"| {options.rows:,} x 128, {options.picks} picks | CPU s | memory, GB | coverage |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        rows = np.load(make_rows(options.rows, 128, folder=Path(folder)), allow_pickle=False)
        rows -= rows.mean(axis=0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        path = Path(folder) / "rows.npy"
        np.save(path, rows)
        for peer in options.peers:
            name, module, _ = PEERS[peer]
            if importlib.util.find_spec(module.partition(".")[0]) is None:
                print(f"| {name} | not installed | | |", flush=True)
                continue
            command = [
                sys.executable, __file__, "--one", peer, "--path", str(path), "--picks", str(options.picks),
                "--seeds", str(options.seeds),
            ]  # fmt: skip
            done = subprocess.run(
                command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{peer} failed:\n{done.stderr[-2000:]}")
            told = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {name} | {told['cpu']:.2f} | {told['above']:.2f} | {told['coverage']:.4f} |", flush=True
            )


if __name__ == "__main__":
    main()

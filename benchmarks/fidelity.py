"""How faithful fast selections are: objective, density arg-max per cluster, near-ties of float32, float16 on disk.

Cells of rows are compared with exact neighbors by the densest row of each cluster, because picks and not densities
are what counts; above 400,000 rows on a sample of the clusters.

    python benchmarks/fidelity.py --json fidelity.json
    python benchmarks/fidelity.py --figures large --rows 1280000
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from near_ties import near_ties
from numpy.typing import NDArray
from scale import make_rows

from usl_backend.selection import USL, nearest_neighbors
from usl_backend.selection.picking import cluster_argmax
from usl_backend.selection.presets import Preset
from usl_backend.selection.rows.assignment import assign
from usl_backend.selection.rows.density import density
from usl_backend.selection.rows.kmeans import kmeans
from usl_backend.selection.rows.neighbors import nearest_of_some
from usl_backend.selection.rows.preparation import fit_projection
from usl_backend.selection.rows.threads import one_thread

K = 20
SAMPLED = 100
"""Clusters that exact neighbors are looked up for in large pools."""

Figure = dict[str, Any]


def agreement(rows: NDArray[np.float32], clusters: int, *, sampled: int | None = None) -> float:
    """Share of the clusters in which cells find the densest row that exact neighbors find."""
    labels = kmeans(rows, clusters=clusters, rng=np.random.default_rng(0)).labels
    looked = np.random.default_rng(1).permutation(clusters)[:sampled]
    targets = np.flatnonzero(np.isin(labels, looked))
    fast = nearest_neighbors(rows, k=K, exact=False).distances[targets]
    exact = nearest_of_some(rows, targets, k=K).distances
    best = [cluster_argmax(density(near), labels[targets], clusters=clusters) for near in (fast, exact)]
    return float((best[0] == best[1])[best[1] >= 0].mean())


def objective(options: argparse.Namespace) -> Iterator[Figure]:
    """k-means inertia beside scikit-learn's, one start each."""
    from sklearn.cluster import KMeans

    rows = np.load(make_rows(50_000, 128, folder=options.folder), allow_pickle=False)
    ours = [kmeans(rows, clusters=400, rng=np.random.default_rng(seed)).inertia for seed in range(5)]
    peers = [KMeans(400, n_init=1, random_state=seed).fit(rows).inertia_ for seed in range(5)]
    ratio = float(np.mean(ours) / np.mean(peers))
    yield figure("k-means objective / scikit-learn's, 50k, 5 seeds, <= 1.005", ratio, ratio <= 1.005)


def cells(options: argparse.Namespace) -> Iterator[Figure]:
    """Density arg-max per cluster, all clusters."""
    for n, clusters, least in ((50_000, 400, 0.98), (200_000, 1000, 0.99)):
        value = agreement(np.load(make_rows(n, 128, folder=options.folder), allow_pickle=False), clusters)
        yield figure(f"density arg-max as with exact neighbors, {n:,}, >= {least}", value, value >= least)


def real(options: argparse.Namespace) -> Iterator[Figure]:
    """Density arg-max per cluster on embeddings given."""
    if options.embeddings is None:
        raise SystemExit("name a .npy or .npz file of real rows with --embeddings")
    held = load_rows(options.embeddings)
    rows = fit_projection(held, dimensions=128).apply(held)
    for clusters in (40, 100, 400):
        value = agreement(rows, clusters)
        name = f"density arg-max as with exact neighbors, {options.embeddings.name}, {clusters} clusters, >= 0.98"
        yield figure(name, value, value >= 0.98)


def large(options: argparse.Namespace) -> Iterator[Figure]:
    """Density arg-max per cluster in a large pool, some clusters."""
    rows = np.load(make_rows(options.rows, 128, folder=options.folder), allow_pickle=False)
    value = agreement(rows, 2911, sampled=SAMPLED)
    yield figure(
        f"density arg-max as with exact neighbors, {options.rows:,}, {SAMPLED} of 2,911 clusters", value
    )


def ties(options: argparse.Namespace) -> Iterator[Figure]:
    """Picks of the presets in float32 that float64 does not make."""
    rows = np.load(make_rows(10_000, 128, folder=options.folder), allow_pickle=False)
    for preset in get_args(Preset):
        found = near_ties(rows, 400, preset=preset)
        yield figure(
            f"{preset} in float32, 10k, 400 picks: {found.differing} differ; {found.centers} choices of a center "
            f"and {found.picks} of a pick differ, largest relative gap < 1e-5",
            max(found.center_gap, found.pick_gap), found.explained,
        )  # fmt: skip


def halves(options: argparse.Namespace) -> Iterator[Figure]:
    """Picks from float16 rows beside picks from float32 rows: how many are the same, and whether they cover as well."""
    pools = {
        f"{n:,}": np.load(make_rows(n, 256, folder=options.folder), allow_pickle=False)
        for n in (10_000, 50_000)
    }
    if options.embeddings is not None:
        pools[options.embeddings.name] = load_rows(options.embeddings)
    for name, rows in pools.items():
        for budget in (40, 400):
            single = USL().select(rows, budget, rng=0).indices
            half = USL().select(rows.astype(np.float16), budget, rng=0).indices
            other = USL().select(rows, budget, rng=1).indices
            same, apart = (len(np.intersect1d(single, each)) / budget for each in (half, other))
            ratio = _covered(rows, half) / _covered(rows, single)
            yield figure(
                f"share of {budget} picks of {name} rows that float16 keeps (another seed: {apart:.3f})", same
            )
            yield figure(
                f"distance to the nearest of {budget} picks of {name} rows, float16 / float32", ratio
            )


def _covered(rows: NDArray[np.float32], picks: NDArray[np.int64]) -> float:
    """Mean squared distance of the rows to the nearest pick, in the space that the default selects in."""
    known = fit_projection(rows, dimensions=128).apply(rows)
    return float(assign(known, known[picks]).distances.mean(dtype=np.float64))


def load_rows(path: Path) -> NDArray[np.float32]:
    """Rows of an .npy file, or the array `rows` of an .npz file."""
    held = np.load(path, allow_pickle=False)
    return np.asarray(held if isinstance(held, np.ndarray) else held["rows"], dtype=np.float32)


def figure(name: str, value: float, holds: bool | None = None) -> Figure:
    return {"figure": name, "value": value, "holds": holds}


FIGURES: dict[str, Callable[[argparse.Namespace], Iterator[Figure]]] = {
    "objective": objective, "cells": cells, "ties": ties, "halves": halves, "real": real, "large": large,
}  # fmt: skip
USUAL = ("objective", "cells", "ties", "halves")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", nargs="+", default=list(USUAL), choices=FIGURES)
    parser.add_argument("--rows", type=int, default=500_000, help="of the figure `large`")
    parser.add_argument("--embeddings", type=Path, help="real rows, .npy, or .npz with an array `rows`")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where rows are written"
    )
    parser.add_argument("--json", type=Path, help="write figures here")
    options = parser.parse_args()
    records = []
    with one_thread():
        for name in options.figures:
            for record in FIGURES[name](options):
                records.append(record)
                verdict = {True: "holds  ", False: "FAILS  ", None: ""}[record["holds"]]
                print(f"{verdict}{record['figure']}: {record['value']:.4g}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

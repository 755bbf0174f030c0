"""How faithful fast selections are: objective, density arg-max per cluster, near-ties of float32, float16 on disk.

Cells of rows are compared with exact neighbors by the densest row of each cluster, because picks and not densities
are what counts; above 400,000 rows on a sample of the clusters.

The paper's presets in float32 are held against float64 choice by choice: every center that a row chooses in a k-means
step and every pick of a round, against the best choice in float64 *from the same state*, that is after the same
earlier choices. If each falls short of the best by less than a hair, every pick that differs in the end is a near-tie
or follows from one. (A distance that equals a horizon of the repulsion up to rounding would be another cause; only
made-up rows have such.)

    python benchmarks/fidelity.py --json fidelity.json
    python benchmarks/fidelity.py --figures large --rows 1280000
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scale import make_rows

from usl_backend.selection import USL, nearest_neighbors
from usl_backend.selection.picking import cluster_argmax, pick_rounds
from usl_backend.selection.presets import Preset
from usl_backend.selection.repulsion import Horizon, Repulsion
from usl_backend.selection.rows.assignment import assign, cluster_sums
from usl_backend.selection.rows.density import density
from usl_backend.selection.rows.kmeans import kmeans
from usl_backend.selection.rows.neighborhood import searched
from usl_backend.selection.rows.neighbors import nearest_of_some
from usl_backend.selection.rows.preparation import fit_projection, squared_distances
from usl_backend.selection.rows.threads import one_thread, row_blocks

K = 20
SAMPLED = 100
"""Clusters that exact neighbors are looked up for in large pools."""

NEAR = 1e-5
"""Relative gap below which two choices are a near-tie."""

Figure = dict[str, Any]


def agreement(rows: NDArray[np.float32], clusters: int, *, sampled: int | None = None) -> float:
    """Return the share of the clusters in which cells find the densest row that exact neighbors find."""
    labels = kmeans(rows, clusters=clusters, rng=np.random.default_rng(0)).labels
    looked = np.random.default_rng(1).permutation(clusters)[:sampled]
    targets = np.flatnonzero(np.isin(labels, looked))
    fast = nearest_neighbors(rows, k=K, exact=False).distances[targets]
    exact = nearest_of_some(rows, targets, k=K).distances
    best = [cluster_argmax(density(near), labels[targets], clusters=clusters) for near in (fast, exact)]
    return float((best[0] == best[1])[best[1] >= 0].mean())


def recall(rows: NDArray[np.float32]) -> float:
    """Return the share of the nearest rows of 2,000 rows that cells find."""
    targets = np.sort(np.random.default_rng(0).permutation(len(rows))[:2000])
    fast = nearest_neighbors(rows, k=K, exact=False).indices[targets]
    exact = nearest_of_some(rows, targets, k=K).indices
    return float(np.mean([np.isin(some, every).mean() for some, every in zip(fast, exact, strict=True)]))


def objective(options: argparse.Namespace) -> Iterator[Figure]:
    """Compare the k-means inertia with scikit-learn's, one start each."""
    from sklearn.cluster import KMeans

    rows = np.load(make_rows(50_000, 128, folder=options.folder), allow_pickle=False)
    ours = [kmeans(rows, clusters=400, rng=np.random.default_rng(seed)).inertia for seed in range(5)]
    peers = [KMeans(400, n_init=1, random_state=seed).fit(rows).inertia_ for seed in range(5)]
    ratio = float(np.mean(ours) / np.mean(peers))
    yield figure("k-means objective / scikit-learn's, 50k, 5 seeds, <= 1.005", ratio, ratio <= 1.005)


def cells(options: argparse.Namespace) -> Iterator[Figure]:
    """Compare the densest row per cluster with that of exact neighbors, all clusters."""
    for n, clusters, least in ((50_000, 400, 0.98), (200_000, 1000, 0.99)):
        value = agreement(np.load(make_rows(n, 128, folder=options.folder), allow_pickle=False), clusters)
        yield figure(f"density arg-max as with exact neighbors, {n:,}, >= {least}", value, value >= least)


def real(options: argparse.Namespace) -> Iterator[Figure]:
    """Compare the densest row per cluster with that of exact neighbors on the embeddings given."""
    if options.embeddings is None:
        raise SystemExit("name a .npy or .npz file of real rows with --embeddings")
    held = load_rows(options.embeddings)
    rows = fit_projection(held, dimensions=128).apply(held)
    name = f"share of the 20 nearest rows that cells find, {options.embeddings.name}, {len(rows):,} rows"
    yield figure(name, recall(rows))
    for clusters in (40, 100, 400):
        value = agreement(rows, clusters)
        name = f"density arg-max as with exact neighbors, {options.embeddings.name}, {clusters} clusters, >= 0.98"
        yield figure(name, value, value >= 0.98)


def large(options: argparse.Namespace) -> Iterator[Figure]:
    """Compare the densest row per cluster with that of exact neighbors in a large pool, some clusters."""
    rows = np.load(make_rows(options.rows, 128, folder=options.folder), allow_pickle=False)
    value = agreement(rows, 2911, sampled=SAMPLED)
    yield figure(
        f"density arg-max as with exact neighbors, {options.rows:,}, {SAMPLED} of 2,911 clusters", value
    )


def ties(options: argparse.Namespace) -> Iterator[Figure]:
    """Count the picks of the presets in float32 that float64 does not make."""
    rows = np.load(make_rows(10_000, 128, folder=options.folder), allow_pickle=False)
    for preset in get_args(Preset):
        found = near_ties(rows, 400, preset=preset)
        yield figure(
            f"{preset} in float32, 10k, 400 picks: {found.differing} differ; {found.centers} choices of a center "
            f"and {found.picks} of a pick differ, largest relative gap < 1e-5",
            max(found.center_gap, found.pick_gap), found.explained,
        )  # fmt: skip


def halves(options: argparse.Namespace) -> Iterator[Figure]:
    """Compare picks from float16 rows with picks from float32 rows: the share that stays, and their coverage."""
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
    """Return the mean squared distance of the rows to the nearest pick, in the space that the default selects in."""
    known = fit_projection(rows, dimensions=128).apply(rows)
    return float(assign(known, known[picks]).distances.mean(dtype=np.float64))


@dataclass(frozen=True)
class NearTies:
    """Differences between float32 and float64, and the largest shortfall of a choice.

    Attributes
    ----------
    differing
        Picks of the float32 run that the float64 run did not make.
    centers, picks
        Choices of a center, and of a pick, that are not the best of float64 from the same state.
    center_gap, pick_gap
        Largest relative gap of such a choice to the best: (distance - least) / least, (most - utility) / |most|.
    """

    differing: int
    centers: int
    center_gap: float
    picks: int
    pick_gap: float

    @property
    def explained(self) -> bool:
        """True where every difference is a near-tie or follows from one."""
        return max(self.center_gap, self.pick_gap) < NEAR


def near_ties(rows: NDArray[np.float32], budget: int, *, preset: Preset, seed: int = 0) -> NearTies:
    """Follow a preset of `USL` on float32 rows (n, d) step by step.

    Raises AssertionError where the steps followed here do not lead to what `USL` picks.
    """
    usl = USL(preset=preset)
    with one_thread():
        single, double = usl.prepare(rows), usl.prepare(rows.astype(np.float64))
        start = np.random.default_rng(seed).permutation(len(rows))[:budget]
        labels, centers, center_gap = _follow_kmeans(single, double, start, usl.iterations)
        final, picks, pick_gap = _follow_picks(usl, single, double, labels, budget)
    chosen = usl.select(rows, budget, rng=seed).indices
    assert set(final[final >= 0].tolist()) <= set(chosen.tolist()), "the steps followed are not those of USL"
    truth = usl.select(rows.astype(np.float64), budget, rng=seed).indices
    return NearTies(len(np.setdiff1d(chosen, truth)), centers, center_gap, picks, pick_gap)


def _follow_kmeans(
    single: NDArray[np.float32], double: NDArray[np.float64], start: NDArray[np.int64], iterations: int
) -> tuple[NDArray[np.int32], int, float]:
    """Follow k-means: labels of the last step, number of choices that differ, and the largest gap."""
    centers = single[start].astype(np.float64)
    true_centers = double[start].copy()
    different, gap = 0, 0.0
    labels: NDArray[np.int32] = np.zeros(len(single), dtype=np.int32)
    for _ in range(iterations):
        labels = assign(single, centers, settle_ties=True).labels
        for block in row_blocks(len(single), size=1024):
            apart = squared_distances(double[block], np.nan_to_num(true_centers))
            apart[:, np.isnan(true_centers[:, 0])] = np.inf
            least, own = apart.min(axis=1), apart[np.arange(len(apart)), labels[block]]
            different += int((own > least).sum())
            # A row on its center (distance 0) may be off by what float32 cannot tell.
            gap = max(gap, float(((own - least) / np.maximum(least, 1e-12)).max()))
        before = centers
        centers = _means(single, labels, len(start))
        true_centers = _means(double, labels, len(start))
        if np.array_equal(before, centers, equal_nan=True):
            break
    return labels, different, gap


def _means(rows: NDArray[Any], labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Compute the mean of each cluster, NaN where it has no rows."""
    sums, mass = cluster_sums(rows, labels, clusters=count)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / mass[:, None])


def _follow_picks(
    usl: USL, single: NDArray[np.float32], double: NDArray[np.float64], labels: NDArray[np.int32], budget: int
) -> tuple[NDArray[np.int64], int, float]:
    """Follow the rounds: picks of the last (-1 for an empty cluster), choices that differ, and the largest gap."""
    p = usl
    horizon = Horizon(p.horizon, p.horizon_distance, p.horizon_picks)
    score, true_score = (
        density(nearest_neighbors(rows, k=searched(p.neighbors), include_self=True, exact=True).distances)
        for rows in (single, double)
    )
    crowd = Repulsion(single, labels=labels, alpha=p.alpha, horizon=horizon, exact=True)
    history: list[NDArray[np.int64]] = []

    def repulsion(picks: NDArray[np.int64]) -> NDArray[Any]:
        history.append(picks)
        return crowd.of(picks)

    final, _ = pick_rounds(
        score, labels, clusters=budget, held=np.empty(0, np.int64), weight=p.repulsion_weight, rounds=p.rounds,
        momentum=p.momentum, repulsion=repulsion,
    )  # fmt: skip
    different, gap = 0, 0.0
    force: NDArray[np.float64] = np.zeros(len(double))
    for picks in [*history, final]:
        utility = true_score - p.repulsion_weight * force
        best = cluster_argmax(utility, labels, clusters=budget)
        some = np.flatnonzero((picks >= 0) & (picks != best))
        most, got = utility[best[some]], utility[picks[some]]
        different += int((got < most).sum())
        with np.errstate(invalid="ignore"):
            short = np.nan_to_num((most - got) / np.abs(most))
        gap = max(gap, float(short.max(initial=0.0)))
        fresh = Repulsion(double, labels=labels, alpha=p.alpha, horizon=horizon, exact=True).of(picks)
        force = p.momentum * force + (1.0 - p.momentum) * fresh
    return final, different, gap


def load_rows(path: Path) -> NDArray[np.float32]:
    """Read rows of an .npy file, or the array `rows` of an .npz file."""
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

"""Whether the paper's presets in float32 pick as in float64 but for near-ties. Nothing is timed here.

Every choice made in float32 - the center of a row in a k-means step, the pick of a cluster in a round - is held
against the best choice in float64 *from the same state*, that is after the same earlier choices. If each falls short
of the best by less than a hair, every pick that differs in the end is a near-tie or follows from one. (A distance
that equals a horizon of the repulsion up to rounding would be another cause; only made-up rows have such.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usl_backend.selection import USL, nearest_neighbors
from usl_backend.selection.picking import cluster_argmax, pick_rounds
from usl_backend.selection.presets import Preset
from usl_backend.selection.repulsion import Horizon, Repulsion
from usl_backend.selection.rows.assignment import assign, cluster_sums
from usl_backend.selection.rows.density import density
from usl_backend.selection.rows.preparation import squared_distances
from usl_backend.selection.rows.threads import one_thread, row_blocks

NEAR = 1e-5
"""Relative gap below which two choices are a near-tie."""


@dataclass(frozen=True)
class NearTies:
    """What differs between float32 and float64, and by how much choices fell short.

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
        """Whether every difference is a near-tie or follows from one."""
        return max(self.center_gap, self.pick_gap) < NEAR


def near_ties(rows: NDArray[np.float32], budget: int, *, preset: Preset, seed: int = 0) -> NearTies:
    """Follow a preset on float32 rows step by step.

    Parameters
    ----------
    rows : (n, d) float32
    budget
        Picks.
    preset
        Of `USL`.
    seed
        Of the start.

    Returns
    -------
    NearTies

    Raises
    ------
    AssertionError
        The steps followed here do not lead to what `USL` picks.
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
    """Labels of the last step, choices that differ, and the largest gap."""
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
    """Mean of each cluster, NaN where it has no rows."""
    sums, mass = cluster_sums(rows, labels, clusters=count)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / mass[:, None])


def _follow_picks(
    usl: USL, single: NDArray[np.float32], double: NDArray[np.float64], labels: NDArray[np.int32], budget: int
) -> tuple[NDArray[np.int64], int, float]:
    """Picks of the last round (-1 where a cluster is empty), choices that differ, and the largest gap."""
    p = usl
    horizon = Horizon(p.horizon, p.horizon_distance, p.horizon_picks)
    score, true_score = (
        density(nearest_neighbors(rows, k=p.neighbors, include_self=True, exact=True).distances)
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

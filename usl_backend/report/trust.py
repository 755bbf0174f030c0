"""Comparison of the picks with random selections and with other seeds, without labels."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.evaluation.reach import Reach, coverage_curve
from usl_backend.report.record import Stability, Trust, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from usl_backend.report.again import Again
    from usl_backend.report.gallery import Copies
    from usl_backend.selection.base import Selection

SEEDS: Final = 4
"""Number of other seeds for the stability test."""
SECONDS: Final = 120.0
"""Seconds after which no further seed is started."""
SMALL: Final = 0.02
"""Gain in coverage below which the verdict is "small", regardless of its spread."""


def trust(
    selection: Selection,
    reach: Reach,
    *,
    n: int,
    copies: Copies,
    stability: Stability | None,
    stability_note: str | None,
) -> Trust:
    """Combine the figures of the trust page.

    Parameters
    ----------
    selection
        The picks.
    reach
        Their coverage and that of random selections.
    n
        Number of rows of the pool.
    copies
        Near-duplicates of the pool.
    stability, stability_note
        Agreement with other seeds, or why it was not computed.
    """
    sizes = np.bincount(selection.cluster, minlength=len(selection.indices))
    mean = reach.random.mean(axis=0)
    low, high = np.quantile(reach.random, (0.05, 0.95), axis=0)
    enough = np.flatnonzero(reach.picks >= mean[-1])
    return Trust(
        verdict=verdict(reach),
        radius=float(np.sqrt(reach.radius)),
        picks=_plain(reach.picks),
        random_mean=_plain(mean),
        random_low=_plain(low),
        random_high=_plain(high),
        draws=len(reach.random),
        evaluated=reach.evaluated,
        matched=int(enough[0]) + 1 if len(enough) else None,
        near_duplicate_share=copies.repeats / n,
        near_duplicate_groups=copies.count,
        near_duplicates_merged=copies.merged,
        effective_clusters=effective_number(sizes),
        largest_share=float(sizes.max() / n),
        smallest_size=int(sizes.min()),
        stability=stability,
        stability_note=stability_note,
    )


def verdict(reach: Reach) -> Verdict:
    """Rate the gain over random at the full budget as clear, small or none.

    Clear: above 95 % of the draws and by at least `SMALL`.
    """
    final = reach.random[:, -1]
    gain = float(reach.picks[-1] - final.mean())
    if gain < 1e-9:  # the mean of equal shares is rounded
        return "none"
    return "clear" if gain >= SMALL and reach.picks[-1] > np.quantile(final, 0.95) else "small"


def effective_number(sizes: NDArray[np.integer[Any]]) -> float:
    """Return the exponential of the entropy of the sizes: the number of equal parts with that entropy.

    Parameters
    ----------
    sizes : (m,) integers
        Sizes, not all zero.

    Returns
    -------
    float
        From 1 (one part has everything) to m (all parts equal).
    """
    share = sizes[sizes > 0] / sizes.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def stability(
    others: Again,
    *,
    rows: NDArray[np.floating[Any]],
    reach: Reach,
    seeds: int = SEEDS,
    rng: np.random.Generator,
    held: NDArray[np.int64] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Stability:
    """Compare a selection with those of the same method with other seeds.

    Parameters
    ----------
    others
        Makes the selections; where they are from a part of the pool, the run's seed chooses from it too.
    rows : (n, d) float
        Normalized embeddings of the report.
    reach
        Coverage of the run's picks; its radius and rows are reused.
    seeds
        Number of seeds to try, at least 1; fewer if they take longer than `SECONDS`.
    rng
        Random generator of the random selections.
    held : (l,) int64 or None
        Labeled rows.
    clock
        Monotonic time in seconds.
    """
    seen = np.ascontiguousarray(rows[:: reach.every])
    known = rows[held] if held is not None and len(held) else None

    def covered(picks: NDArray[np.int64]) -> float:
        chosen = rows[others.rows[picks]]
        return float(coverage_curve(seen, chosen, radius=reach.radius, held=known)[-1])

    begun = clock()
    own = others.choose(0) if others.own is None else others.own
    m, n = len(own.indices), len(others.rows)
    same, clusters = [], []
    final = [covered(own.indices) if others.own is None else float(reach.picks[-1])]
    for number in range(1, seeds + 1):
        other = others.choose(number).indices
        same.append(len(np.intersect1d(own.indices, other)) / m)
        clusters.append(_clusters_met(own, other))
        final.append(covered(other))
        if clock() - begun > SECONDS:
            break
    free = np.setdiff1d(np.arange(n), others.held)
    chance = [_clusters_met(own, rng.choice(free, m, replace=False)) for _ in range(20)]
    return Stability(
        seeds=len(same),
        same_tasks=float(np.mean(same)),
        same_clusters=float(np.mean(clusters)),
        same_clusters_random=float(np.mean(chance)),
        coverage_low=min(final),
        coverage_high=max(final),
        tasks=n if others.own is None else None,
    )


def _clusters_met(selection: Selection, rows: NDArray[np.integer[Any]]) -> float:
    """Return the share of the clusters that contain one of these rows."""
    return len(np.unique(selection.cluster[rows])) / len(selection.indices)


def _plain(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Round to five decimals, more than the precision of a share of 20,000."""
    return tuple(np.round(values, 5).tolist())

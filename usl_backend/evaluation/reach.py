"""Coverage of the pool by its picks, compared with random picks; needs no classes, unlike `coverage.py`.

A row is *covered* if its nearest pick is within a radius. The radius is the median distance of a row to its
nearest random pick at the full budget, so random picks cover half of the pool by construction and the value is
comparable between encoders. Where more than half of the rows repeat a random pick, the median is that of the others:
the distance between copies says nothing about what a label tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import InputError
from usl_backend.selection.presets import NEAR_DUPLICATE
from usl_backend.selection.rows.preparation import squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress

DRAWS = 20
"""Number of random selections of the same size for comparison."""
EVALUATED = 20_000
"""Number of evenly spaced rows on which coverage is measured; 20,000 give a precision of 0.4 points."""
_CELLS = 524_288
"""Maximum number of products in memory, so that they stay in the cache."""
_CLOSE = 1e-3
"""Share of the squared lengths below which a distance from a product lost its digits, and is taken from differences."""


@dataclass(frozen=True)
class Reach:
    """Coverage by the picks and by random selections, along the pick order.

    Attributes
    ----------
    radius
        Squared distance up to which a row counts as covered.
    picks : (m,) float64
        Share of the pool covered by the first 1..m picks, 0 to 1, non-decreasing; higher = better.
    random : (draws, m) float64
        The same for each random selection.
    before
        Share covered by labeled rows before the first pick; 0 if there are none.
    every
        Step between the rows on which coverage was measured, starting with the first row.
    evaluated
        Number of rows on which coverage was measured.
    """

    radius: float
    picks: NDArray[np.float64]
    random: NDArray[np.float64]
    before: float
    every: int
    evaluated: int


def covering_radius(apart: NDArray[np.floating[Any]]) -> float:
    """Return the radius from the squared distances of rows to their nearest random pick, of any shape.

    Their median; where that is at most `NEAR_DUPLICATE`, the median of those beyond, or `NEAR_DUPLICATE` without any.
    """
    radius = float(np.median(apart))
    if radius > NEAR_DUPLICATE:
        return radius
    beyond = apart[apart > NEAR_DUPLICATE]
    return float(np.median(beyond)) if len(beyond) else NEAR_DUPLICATE


def nearest_distances(
    rows: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Return the squared distance of each row to the nearest of `others`.

    Parameters
    ----------
    rows : (n, d) float
    others : (m, d) float
        At least one.

    Returns
    -------
    (n,) float, non-negative
    """
    result = np.empty(len(rows), dtype=np.result_type(rows, others))
    lengths = np.einsum("ij,ij->i", others, others)
    for block in _blocks(len(rows), len(others)):
        part = rows[block]
        norms = np.einsum("ij,ij->i", part, part)
        likeness = part @ others.T
        likeness -= lengths / 2
        best = norms - 2 * likeness.max(axis=1)
        close = np.flatnonzero(best < _CLOSE * (2 * norms + lengths.max()))
        for some in _blocks(len(close), len(others)):
            best[close[some]] = squared_distances(part[close[some]], others).min(axis=1)
        result[block] = best
    return result


def coverage_curve(
    rows: NDArray[np.floating[Any]],
    picks: NDArray[np.floating[Any]],
    *,
    radius: float,
    held: NDArray[np.floating[Any]] | None = None,
) -> NDArray[np.float64]:
    """Return the share of the rows within the radius of the first 1, 2, ..., m picks.

    Parameters
    ----------
    rows : (n, d) float
    picks : (m, d) float
        In pick order.
    radius
        Squared distance, inclusive.
    held : (l, d) float or None
        Labeled rows, which cover from the start.

    Returns
    -------
    (m,) float64
        Shares, 0 to 1, non-decreasing; higher = better.
    """
    first = np.zeros(len(picks), dtype=np.int64)
    for block in _blocks(len(rows), len(picks)):
        part = rows[block]
        within = _within(part, picks, radius)
        if held is not None and len(held):
            within[:, 0] |= nearest_distances(part, held) <= radius
        begin = within.argmax(axis=1)
        first += np.bincount(begin[within[np.arange(len(part)), begin]], minlength=len(picks))
    return first.cumsum() / len(rows)


def _within(rows: NDArray[Any], picks: NDArray[Any], radius: float) -> NDArray[np.bool_]:
    """Return whether each row is within the radius of each pick, (rows, picks)."""
    norms, lengths = np.einsum("ij,ij->i", rows, rows), np.einsum("ij,ij->i", picks, picks)
    if radius < _CLOSE * (norms.max() + lengths.max()):
        return np.asarray(squared_distances(rows, picks) <= radius)
    likeness = rows @ picks.T
    likeness -= lengths / 2
    return np.asarray(likeness >= ((norms - radius) / 2)[:, None])


def reach(
    rows: NDArray[np.floating[Any]],
    picks: NDArray[np.integer[Any]],
    *,
    rng: np.random.Generator,
    held: NDArray[np.integer[Any]] | None = None,
    draws: int = DRAWS,
    evaluated: int = EVALUATED,
    progress: Progress | None = None,
) -> Reach:
    """Compare the coverage of the picks with random selections of the same size.

    Parameters
    ----------
    rows : (n, d) float
        The pool.
    picks : (m,) integers
        Rows in pick order.
    rng
        Random generator of the draws.
    held : (l,) integers or None
        Labeled rows: never drawn, and covering from the start in every selection.
    draws
        Number of random selections, at least 1, drawn without replacement.
    evaluated
        Maximum number of rows on which coverage is measured.
    progress
        Called as `progress(step, done, total)`.

    Returns
    -------
    Reach

    Raises
    ------
    InputError
        There are no picks, or no draws.
    """
    if not len(picks) or draws < 1:
        raise InputError(f"{len(picks)} picks and {draws} draws cannot be compared; give at least 1 of each")
    held = np.asarray([] if held is None else held, dtype=np.int64)
    free = np.setdiff1d(np.arange(len(rows)), held)
    sets = [rng.choice(free, len(picks), replace=False) for _ in range(draws)]
    every = -(-len(rows) // evaluated)
    seen = np.ascontiguousarray(rows[::every])
    known = rows[held] if len(held) else None
    done, total = 0, 2 * draws + 1

    def report() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress("measuring coverage", done, total)

    apart = np.empty((draws, len(seen)))
    for draw, chosen in enumerate(sets):
        others = rows[chosen] if known is None else np.concatenate([known, rows[chosen]])
        apart[draw] = nearest_distances(seen, others)
        report()
    radius = covering_radius(apart)
    random = np.empty((draws, len(picks)))
    for draw, chosen in enumerate(sets):
        random[draw] = coverage_curve(seen, rows[chosen], radius=radius, held=known)
        report()
    curve = coverage_curve(seen, rows[np.asarray(picks)], radius=radius, held=known)
    report()
    before = 0.0 if known is None else float((nearest_distances(seen, known) <= radius).mean())
    return Reach(radius, curve, random, before=before, every=every, evaluated=len(seen))


def _blocks(rows: int, columns: int) -> list[slice]:
    """Return row blocks whose distances to all columns fit in memory."""
    size = max(1, _CELLS // max(1, columns))
    return [slice(begin, min(begin + size, rows)) for begin in range(0, rows, size)]

"""Find the rows of a pool that stand out by what was measured on their pictures or texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Reason = Literal["one color", "noise", "tiny", "no letters", "few letters"]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

_SHADES: Final = 4.0
"""Spread of the brightness below which a picture is nearly of one color."""
_NOISE: Final = 0.15
"""Order below which a picture may be noise."""
_PURE: Final = 0.05
"""Order below which it is noise for sure, where the pool's median is so many times larger."""
_TINY: Final = 32
"""Pixels along the shorter side below which a picture may be tiny."""
_LETTERS: Final = 10
"""Letters below which a text may be too short to mean something."""
_LESS: Final = 4.0
"""A picture counts as flat or tiny only where the median of the pool is so many times larger."""
_SHORTER: Final = 20.0
"""The same for the letters of a text."""
_DEVIATIONS: Final = 3.0
"""A picture that may be noise counts as such only so many robust standard deviations below the pool's median."""


@dataclass(frozen=True)
class Outliers:
    """The outliers of a pool.

    Attributes
    ----------
    rows : (o,) int64
        Ascending.
    reasons
        Of each of these rows.
    known
        Rows of the pool on which something was measured; of the others nothing is said.
    """

    rows: NDArray[np.int64]
    reasons: tuple[Reason, ...] = ()
    known: int = 0


def find_outliers(traits: NDArray[np.floating[Any]] | None) -> Outliers:
    """Find the rows that show nothing, as far as that can be told from single numbers.

    Each bound holds twice, by itself and against the pool: where most pictures are small, faint or textures, those are
    no outliers. A row with both a picture and a text is an outlier only if both are.

    Parameters
    ----------
    traits : (n, 4) float or None
        Columns as in `Traits`; None where nothing was measured.
    """
    if traits is None or not len(traits):
        return Outliers(np.empty(0, dtype=np.int64))
    spread, order, side, letters = np.asarray(traits, dtype=np.float64).T
    middle = _median(order)
    deviation = 1.4826 * _median(np.abs(order - middle))
    found: dict[Reason, NDArray[np.bool_]] = {
        "one color": (spread < _SHADES) & (spread < _median(spread) / _LESS),
        "noise": (order < _PURE if middle > _LESS * _PURE else np.zeros(len(order), np.bool_))
        | ((order < _NOISE) & (order < middle - _DEVIATIONS * deviation)),
        "tiny": (side < _TINY) & (side < _median(side) / _LESS),
        "no letters": (letters == 0) & (_median(letters) > 0),
        "few letters": letters < min(_LETTERS, _median(letters) / _SHORTER),
    }
    reasons = np.select(list(found.values()), list(found), default="")
    picture = found["one color"] | found["noise"] | found["tiny"]
    text = found["no letters"] | found["few letters"]
    seen, read = ~np.isnan(spread), ~np.isnan(letters)
    rows = np.flatnonzero((picture | ~seen) & (text | ~read) & (seen | read))
    return Outliers(rows, tuple(reasons[rows].tolist()), int((seen | read).sum()))


def _median(values: NDArray[np.float64]) -> float:
    """Return the median of the known values; NaN if there are none, which no bound is met by."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")

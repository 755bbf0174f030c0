"""Estimate from a control set the share of suggestions that are right, and of rows whose class has no label."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import InputError
from usl_backend.suggestions.control import Judged, check_rows, judge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.suggestions.control import Control
    from usl_backend.suggestions.suggesting import Suggestions

STRATA: Final = 5
"""Parts of the pool by confidence, equally large."""
FEWEST: Final = 4
"""Control labels that every stratum needs for strata to be used."""
_Z: Final = 1.959964
"""Of a 95 % interval."""


@dataclass(frozen=True)
class Share:
    """A share of the pool, estimated from control labels.

    Attributes
    ----------
    share
        0 to 1.
    low, high
        Interval that holds the true share in 95 of 100 control sets, within 0 to 1.
    count
        Control labels it comes from.
    strata
        Parts by confidence that it was estimated in; 1 = none.
    """

    share: float
    low: float
    high: float
    count: int
    strata: int = 1

    def reached(self, target: float) -> bool:
        """True when even the lower end is at `target` (0 to 1) or above: the time to stop labeling."""
        return self.low >= target


def wilson(share: float, count: float) -> tuple[float, float]:
    """95 % interval of a share seen in `count` independent draws.

    Parameters
    ----------
    share
        0 to 1.
    count
        Above 0; a fraction where draws count in part.

    Returns
    -------
    (float, float)
        Within 0 to 1.

    Notes
    -----
    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z = 1.96.

    Source: Wilson, *Probable Inference, the Law of Succession, and Statistical Inference*, JASA 22, 1927.
    """
    middle = share + _Z * _Z / (2 * count)
    reach = _Z * math.sqrt(share * (1 - share) / count + _Z * _Z / (4 * count * count))
    scale = 1 + _Z * _Z / count
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def accuracy(suggestions: Suggestions, *, control: Control) -> Share:
    """Estimate the share of suggestions that are right.

    Parameters
    ----------
    suggestions
        From `suggest`, made without the control labels.
    control
        Labels of a uniform draw of the pool. Rows whose label was given to `suggest` are left out: the figure is of
        the suggestions alone.

    Returns
    -------
    Share
        Of the rows without a given label; higher = better. `low` at the target is the time to stop (`reached`).

    Raises
    ------
    InputError
        No control label on a suggestion, or a row outside the pool. Nothing without control labels is worth showing:
        such estimates were off by 10 to 20 points.

    Notes
    -----
    The share right among the control rows with Wilson's interval. Where each fifth of the pool by confidence has 4
    control labels, also the mean of the fifths' shares, which is tighter the more they differ: its variance
    v = sum_h W_h^2 s_h (1 - s_h) / n_h, with s_h = (right_h + 1) / (n_h + 2), stands for m (1 - m) / v independent
    draws, m = sum_h W_h s_h, in Wilson's formula. The tighter of the two is given; `strata` says which.

    Source: Wilson 1927; Yan and Su, *Stratified Wilson and Newcombe Confidence Intervals for Multiple Binomial
    Proportions*, Statistics in Biopharmaceutical Research 2, 2010, for the strata.

    Differs: strata enter by the number of draws that their variance is worth, and not by a quantile of their own.
    """
    judged = judge(suggestions, control)
    count = len(judged.rows)
    if not count:
        raise InputError(
            f"{len(control.rows)} control labels, and none on a row without a given label; "
            "label control rows that were left out of the labels"
        )
    share = float(judged.right.mean())
    plain = Share(share, *wilson(share, count), count)
    parts = _by_strata(suggestions, judged)
    return parts if parts is not None and parts.high - parts.low < plain.high - plain.low else plain


def _by_strata(suggestions: Suggestions, judged: Judged) -> Share | None:
    """The stratified estimate; None where a stratum has too few labels."""
    free = suggestions.order[~suggestions.given[suggestions.order]]
    if len(free) < STRATA:
        return None
    stratum = np.empty(len(suggestions.label), dtype=np.int64)
    stratum[free] = np.arange(len(free)) * STRATA // len(free)
    weights = np.bincount(stratum[free], minlength=STRATA) / len(free)
    held = np.bincount(stratum[judged.rows], minlength=STRATA)
    if int(held.min()) < FEWEST:
        return None
    right = np.bincount(stratum[judged.rows], weights=judged.right, minlength=STRATA)
    careful = (right + 1.0) / (held + 2.0)
    variance = float((weights**2 * careful * (1.0 - careful) / held).sum())
    middle = float(weights @ careful)
    share = min(1.0, float(weights @ (right / held)))
    low, high = wilson(share, middle * (1.0 - middle) / variance)
    return Share(share, low, high, len(judged.rows), strata=STRATA)


def unseen_share(labels: NDArray[np.integer[Any]], *, control: Control) -> Share:
    """Estimate the share of rows whose class has no label yet.

    Parameters
    ----------
    labels : (n,) integers
        As given to `suggest`: -1 where there is none.
    control
        Labels of a uniform draw of the pool, labeled rows included.

    Returns
    -------
    Share
        Of the whole pool, 0 to 1; lower = better. Unbiased, with Wilson's interval.

    Raises
    ------
    InputError
        No control labels, or a row outside the pool.

    Notes
    -----
    The share of control rows whose class is that of no labeled row. Estimates from the labels alone (Good and Turing,
    Chao) are useless here: picks are spread over the pool on purpose.
    """
    labels = np.asarray(labels)
    check_rows(control, n=len(labels))
    count = len(control.rows)
    if not count:
        raise InputError("there are no control labels; label rows drawn uniformly from the pool")
    share = float((~np.isin(control.labels, labels)).mean())
    return Share(share, *wilson(share, count), count)

"""Accept suggestions as labels at a promised precision; none without control labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from usl_backend.errors import InputError
from usl_backend.suggestions.control import Control, judge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.suggestions.suggesting import Suggestions

TARGET: Final = 0.95
DELTA: Final = 0.1
_ROUNDING: Final = 1e-9


@dataclass(frozen=True)
class Acceptance:
    """Accepted suggestions, or how many control labels are missing.

    Attributes
    ----------
    accepted : (n,) bool
        Suggestions that meet the promise; never rows with a given or a control label.
    count
        Number of accepted rows.
    threshold
        Confidence from which suggestions are accepted; None where none is.
    lower
        Lower bound of the share right among them, 0 to 1; None where none is.
    target, delta
        The promise, and the chance of missing it.
    controls
        Control labels that counted.
    needed
        Control labels, all right, without which nothing can be accepted at this target.
    missing
        Control labels needed at least before anything can be accepted; 0 where something is.
    """

    accepted: NDArray[np.bool_]
    count: int
    threshold: float | None
    lower: float | None
    target: float
    delta: float
    controls: int
    needed: int
    missing: int

    def __str__(self) -> str:
        """Say in one sentence what was accepted, or what is missing."""
        if self.threshold is not None:
            return (
                f"{self.count} accepted at {_percent(self.target)}: {self.controls} control labels; about "
                f"{_percent(self.delta)} of such accepted sets are below it"
            )
        takes = f" ({_percent(self.target)} takes {self.needed} without a mistake)"
        return (
            f"none can be accepted at {_percent(self.target)}: {self.controls} control labels, "
            f"{self.missing} more needed at least{takes if self.controls < self.needed else ''}"
        )


def accept(
    suggestions: Suggestions,
    *,
    control: Control | None = None,
    target: float = TARGET,
    delta: float = DELTA,
) -> Acceptance:
    """Accept the surest suggestions so that a share `target` of them is right.

    Parameters
    ----------
    suggestions
        From `suggest`, made without the control labels.
    control
        Labels of a uniform draw of the pool; rows whose label was given to `suggest` are left out. None: nothing is
        accepted.
    target
        Share of the accepted suggestions that must be right, 0 < target < 1.
    delta
        Chance at most, over control sets, that the accepted ones miss the target, 0 < delta <= 0.5.

    Returns
    -------
    Acceptance
        `str()` of it is a sentence for users. 99 % takes 230 control labels without a mistake at delta .1: with
        fewer, nothing is accepted and `missing` says how many more it would take.

    Raises
    ------
    InputError
        A target or delta out of range, or a control row outside the pool.

    Notes
    -----
    Control rows are ranked by confidence. Prefixes are tested in turn, from the n0-th on, n0 = ceil(ln delta /
    ln target), the least that can pass (45 for 95 %, 22 for 90 % at delta .1): a prefix of n with k right passes when
    its Clopper-Pearson lower bound at level delta is at the target or above. The longest prefix before the first that
    fails is accepted, with all suggestions as sure as its last. Rows of equal confidence are tested together.

    Of all runs a share delta at most accepts a set below the target. Many runs accept nothing, so that given that one
    accepts, about one set in ten lies below the target at delta .1.

    `missing` is exact where confidences differ: n0 less the right control rows that are surer than the first mistake.

    Source: Clopper and Pearson, *The Use of Confidence or Fiducial Limits*, Biometrika 26, 1934; Angelopoulos, Bates,
    Candès, Jordan, Lei, *Learn then Test*, 2021 (arXiv 2110.01052), fixed sequence testing.
    """
    if not 0.0 < target < 1.0:
        raise InputError(f"target is {target}; give a share between 0 and 1, such as 0.95")
    if not 0.0 < delta <= 0.5:
        raise InputError(f"delta is {delta}; give a chance above 0 and at most 0.5, such as 0.1")
    judged = judge(suggestions, control or Control(np.array([], dtype=int), np.array([], dtype=int)))
    count, needed = len(judged.rows), controls_needed(target, delta=delta)
    confidence = suggestions.confidence[judged.rows]
    # Prefixes end where the confidence changes.
    ends = (
        np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True)) + 1 if count else np.array([], int)
    )
    right = np.cumsum(judged.right)
    reached = 0
    for end in ends[ends >= needed].tolist():
        if not _passes(int(right[end - 1]), end, target=target, delta=delta):
            break
        reached = end
    accepted: NDArray[np.bool_] = np.zeros(len(suggestions.label), dtype=bool)
    if not reached:
        mistakes = np.flatnonzero(~judged.right)
        before = int((confidence > confidence[mistakes[0]]).sum()) if len(mistakes) else count
        return Acceptance(
            accepted, 0, None, None, target, delta, count, needed, missing=max(1, needed - before)
        )
    threshold = float(confidence[reached - 1])
    accepted = (suggestions.confidence >= np.float32(threshold)) & ~suggestions.given
    accepted[judged.rows] = False
    lower = clopper_pearson(int(right[reached - 1]), reached, delta=delta)
    return Acceptance(
        accepted, int(accepted.sum()), threshold, lower, target, delta, count, needed, missing=0
    )


def clopper_pearson(right: int, count: int, *, delta: float) -> float:
    """Lower bound, at level `delta`, of the share of which `right` of `count` draws were seen.

    Parameters
    ----------
    right
        0 to `count`.
    count
        At least 1.
    delta
        Chance at most that the true share is below the bound.

    Returns
    -------
    float
        The p with P(Bin(count, p) >= right) = delta; 0 where none was right.

    Notes
    -----
    Source: Clopper and Pearson 1934; one side of their interval.
    """
    if right == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _upper_tail(right, count, middle) > delta:
            high = middle
        else:
            low = middle
    return low


def controls_needed(target: float, *, delta: float = DELTA, mistakes: int = 0) -> int:
    """Least number of control labels that can pass, with so many mistakes among them.

    Parameters
    ----------
    target
        Promised share, 0 < target < 1.
    delta
        Chance of missing it.
    mistakes
        Wrong suggestions among the control rows.

    Returns
    -------
    int
        ceil(ln delta / ln target) without a mistake: 45 for 95 %, 230 for 99 % at delta .1.

    Raises
    ------
    InputError
        A target or delta that is not between 0 and 1, or fewer than 0 mistakes.
    """
    if not (0.0 < target < 1.0 and 0.0 < delta < 1.0 and mistakes >= 0):
        raise InputError(
            f"target is {target}, delta {delta}, mistakes {mistakes}; give shares between 0 and 1, 0 mistakes or more"
        )
    low = max(1, math.ceil(math.log(delta) / math.log(target) - _ROUNDING))
    if not mistakes:
        return low
    high = 2 * low + 2 * mistakes
    while not _passes(high - mistakes, high, target=target, delta=delta):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if middle > mistakes and _passes(middle - mistakes, middle, target=target, delta=delta):
            high = middle
        else:
            low = middle
    return high


def _passes(right: int, count: int, *, target: float, delta: float) -> bool:
    """True where the lower bound is at the target or above."""
    return _upper_tail(right, count, target) <= delta * (1.0 + _ROUNDING)


def _upper_tail(right: int, count: int, share: float) -> float:
    """P(Bin(count, share) >= right)."""
    if right <= 0 or share >= 1.0:
        return 1.0
    if share <= 0.0:
        return 0.0
    log_share, log_rest = math.log(share), math.log1p(-share)
    whole = math.lgamma(count + 1)
    return math.fsum(
        math.exp(
            whole - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * log_share + (count - k) * log_rest
        )
        for k in range(right, count + 1)
    )


def _percent(share: float) -> str:
    """0.95 -> 95 %."""
    return f"{100 * share:.10g} %"

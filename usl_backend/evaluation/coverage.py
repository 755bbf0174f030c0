"""Balance of the picks over the true classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassSpread:
    """Picks per class.

    Attributes
    ----------
    counts : (classes,) int64
        Picks of each class.
    covered
        Number of classes with at least one pick; higher = better.
    deviation
        Population standard deviation of `counts`; 0 = exactly balanced, lower = better.
    evenness
        Entropy of the counts divided by that of equal counts, 0 to 1; higher = better. 1 for a single class.
    """

    counts: NDArray[np.int64]
    covered: int
    deviation: float
    evenness: float


def class_spread(picked: NDArray[np.integer[Any]], *, classes: int) -> ClassSpread:
    """Compute the balance of the picks over the classes.

    Parameters
    ----------
    picked : (m,) integers
        True class of each pick, 0 <= class < classes.
    classes
        Number of classes.

    Returns
    -------
    ClassSpread
        Counts and measures of balance.

    Raises
    ------
    InputError
        There are no picks, or a class is out of range.
    """
    if len(picked) == 0:
        raise InputError("there are 0 picks to evaluate; give the class of each pick")
    if picked.min() < 0 or picked.max() >= classes:
        outside = picked.min() if picked.min() < 0 else picked.max()
        raise InputError(
            f"a pick has class {outside} but classes is {classes}; classes go from 0 to {classes - 1}"
        )
    counts = np.bincount(picked, minlength=classes)
    share = counts[counts > 0] / len(picked)
    most = np.log(classes)
    evenness = float(-(share * np.log(share)).sum() / most) if classes > 1 else 1.0
    return ClassSpread(counts, int((counts > 0).sum()), float(counts.std()), abs(evenness))

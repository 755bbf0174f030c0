"""Which tasks make the control set: a uniform draw that knows nothing of the picks. Queueing them is `queue.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STREAM = 0xC0
"""Sets this draw apart from every other one that the seed makes."""


def control_rows(free: NDArray[np.int64], count: int, *, seed: int) -> NDArray[np.int64]:
    """Draw the control set: every row that can be labeled is as likely as every other, picks included.

    Parameters
    ----------
    free : (f,) int64
        Rows without labels.
    count
        Rows to draw.
    seed
        Of the run; the picks of the same seed are independent of this draw.

    Returns
    -------
    (count,) int64
        Distinct rows, in random order, so that every beginning is a uniform draw too.

    Raises
    ------
    InputError
        There are not so many rows.
    """
    if count > len(free):
        raise InputError(
            f"control is {count} but only {len(free)} tasks can be drawn; lower control to {len(free)} or less"
        )
    return np.random.default_rng([seed, _STREAM]).choice(free, count, replace=False)

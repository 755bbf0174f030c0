"""Uniform draw of the control set, independent of the picks; `queue.py` queues it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STREAM = 0xC0
"""Stream number that makes this draw independent of the seed's other uses."""


def control_rows(free: NDArray[np.int64], count: int, *, seed: int) -> NDArray[np.int64]:
    """Draw the control set uniformly from all rows without labels, picks included.

    Parameters
    ----------
    free : (f,) int64
        Rows without labels.
    count
        Rows to draw.
    seed
        Seed of the run; the draw is independent of the picks made with the same seed.

    Returns
    -------
    (count,) int64
        Distinct rows in random order, so every prefix is a uniform draw too.

    Raises
    ------
    InputError
        `count` is larger than f.
    """
    if count > len(free):
        raise InputError(
            f"control is {count} but only {len(free)} tasks can be drawn; lower control to {len(free)} or less"
        )
    return np.random.default_rng([seed, _STREAM]).choice(free, count, replace=False)

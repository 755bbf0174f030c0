"""Numbers measured on one picture or text."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GRID: Final = 64
"""Pixels that are looked at along a side: every second one of 128."""
_RED, _GREEN, _BLUE = np.float32(0.299), np.float32(0.587), np.float32(0.114)
_FLAT: Final = 1e-3
_NO_LETTER: Final = re.compile(r"[\W\d_]+")


class Traits(NamedTuple):
    """What is known of one picture or text; NaN where it is not.

    Attributes
    ----------
    spread
        Standard deviation of the brightness of a picture, 0 (one shade) to 127.5.
    order
        Correlation of the brightness of pixels an eighth of the side apart, -1 to 1, mean of both directions: near 0
        for noise, higher where a picture shows something.
    side
        Shorter side of a picture in pixels, before it was scaled; infinity where it is not tiny for sure.
    letters
        Letters of a text, in any script.
    """

    spread: float = math.nan
    order: float = math.nan
    side: float = math.nan
    letters: float = math.nan


UNMEASURED: Final = Traits()


def traits_of_picture(pixels: NDArray[np.uint8], *, side: float = math.inf) -> Traits:
    """Measure a decoded picture.

    Parameters
    ----------
    pixels : (s, s, 3) uint8
        Red, green, blue.
    side
        As in `Traits`.
    """
    step = max(1, len(pixels) // _GRID)
    few = pixels[::step, ::step]
    shades = few[..., 0] * _RED + few[..., 1] * _GREEN + few[..., 2] * _BLUE
    shades -= shades.mean()
    variance = float(np.einsum("ij,ij->", shades, shades)) / shades.size
    order = 1.0
    if variance > _FLAT:
        lag = max(1, len(shades) // 8)
        apart = shades.size - lag * len(shades)
        across = float(np.einsum("ij,ij->", shades[:, lag:], shades[:, :-lag])) / apart
        down = float(np.einsum("ij,ij->", shades[lag:], shades[:-lag])) / apart
        order = (across + down) / 2.0 / variance
    return Traits(spread=math.sqrt(variance), order=order, side=side)


def traits_of_text(text: str) -> Traits:
    """Count the letters of a text."""
    return Traits(letters=float(len(_NO_LETTER.sub("", text))))

"""Encoders by name; loading this room loads no network library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from usl_backend.encoders.base import Encoder
from usl_backend.errors import EncoderError, nearest_name

__all__ = ["ENCODERS", "Encoder", "load"]


def _efficientnet_lite0(image_size: int) -> Encoder:
    from usl_backend.encoders.efficientnet import EfficientNetLite0

    return EfficientNetLite0(size=image_size)


ENCODERS: Final[dict[str, Callable[[int], Encoder]]] = {"efficientnet-lite0": _efficientnet_lite0}
"""Name -> factory that takes the side of the pictures in pixels."""


def load(name: str, *, image_size: int = 128) -> Encoder:
    """Load an encoder with its weights.

    Parameters
    ----------
    name
        A key of `ENCODERS`.
    image_size
        Side to which pictures are scaled, in pixels; 32 or more.

    Returns
    -------
    Encoder
        Ready to encode.

    Raises
    ------
    EncoderError
        The name is unknown, the size is too small, or something has to be installed; the text says what.
    """
    if name not in ENCODERS:
        raise EncoderError(f'unknown encoder "{name}"; {nearest_name(name, ENCODERS)}')
    if image_size < 32:
        raise EncoderError(f"image_size is {image_size}; encoder {name} needs at least 32 pixels")
    return ENCODERS[name](image_size)

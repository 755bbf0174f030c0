"""Decode and scale pictures in less than half of Pillow's time, by simplejpeg and torch; `pictures` has opened them.

JPEGs decode to the same pixels as by Pillow. They are scaled by a triangle's kernel instead of Hamming's, so that the
rows of an encoder change a little: its key says which of the two its pictures went through.
"""

from __future__ import annotations

import importlib
import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.cpus import one_torch_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

_LARGE: Final = 3
"""From so many times the size on Pillow's scaling in two steps is the faster one."""


def quick_square(image: Image.Image, size: int) -> NDArray[np.uint8] | None:
    """Scale a picture to a square, not turned upright yet.

    Parameters
    ----------
    image
        Just opened; if it is a JPEG, `draft` was called for the size.
    size
        Side of the result in pixels.

    Returns
    -------
    (size, size, 3) uint8 or None
        None for what Pillow has to scale: pictures that grow, large ones but JPEGs, and those with transparency or
        unusual colors.
    """
    if min(image.size) < size:
        return None
    pixels = _decoded(image) if image.format == "JPEG" and image.mode == "RGB" else None
    if pixels is None:
        image.load()
        plain = image.mode in ("L", "RGB") and not image.has_transparency_data
        if not plain or (image.format != "JPEG" and min(image.size) >= _LARGE * size):
            return None
        pixels = np.array(image.convert("RGB"))
    return _scaled(pixels, size)


def _decoded(image: Image.Image) -> NDArray[np.uint8] | None:
    """Decode a JPEG at the scale of its draft; None without simplejpeg, or if it finds anything wrong with it."""
    if find_spec("simplejpeg") is None or not isinstance(stream := getattr(image, "fp", None), io.BytesIO):
        return None
    library: Any = importlib.import_module("simplejpeg")
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    try:
        found = library.decode_jpeg(
            stream.getvalue(), "RGB", min_height=height, min_width=width, buffer=pixels
        )
    except ValueError:
        return None
    return pixels if found.shape == pixels.shape else None


def _scaled(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Scale by torch, which does it with the processor's vector instructions."""
    import torch

    planes = (
        torch.from_numpy(pixels).unsqueeze(0).permute(0, 3, 1, 2)
    )  # whose strides torch knows as channels last
    with one_torch_thread():
        scaled = torch.nn.functional.interpolate(planes, (size, size), mode="bilinear", antialias=True)
    return np.ascontiguousarray(scaled.permute(0, 2, 3, 1)[0].numpy())

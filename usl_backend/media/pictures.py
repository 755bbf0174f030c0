"""Decode untrusted bytes of a picture to a square of pixels, a thumbnail or a PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from usl_backend.errors import MediaError
from usl_backend.media.damaged import mend
from usl_backend.media.limits import MediaLimits, short_reason
from usl_backend.media.quick import quick_square
from usl_backend.media.several import cover_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

Image.init()  # at import, not in several decoding threads at once

FORMATS: Final = tuple(
    name for name in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM") if name in Image.OPEN
)
"""Pillow decoders to use for untrusted bytes; the others are never tried."""

_TINY_BYTES: Final = 16_384
"""A picture of a few pixels fits into a file of this size."""
_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(data: bytes, *, size: int, limits: MediaLimits, quick: bool = False) -> NDArray[np.uint8]:
    """Decode a picture and scale it to a square, its sides independently.

    Transparency is composited over white, EXIF rotation is applied, 16-bit grey keeps its full range (65,535 is
    white), 32-bit and floating-point grey is stretched from its smallest to its largest value, and only the first
    frame of an animation is used.

    Parameters
    ----------
    data
        The file's bytes: JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF or PPM; of a video the middle frame is used, of a PDF
        the first page.
    size
        Side of the result in pixels.
    limits
        `pixels` and `frames` are checked before decoding.
    quick
        Use `quick_square` where it can, in less than half of the time; its pixels differ a little.

    Returns
    -------
    (size, size, 3) uint8
        Red, green, blue.

    Raises
    ------
    MediaError
        Not a picture, damaged, or over a limit; the message is the reason to show.
    """
    return decode_measured(data, size=size, limits=limits, quick=quick)[0]


def decode_measured(
    data: bytes, *, size: int, limits: MediaLimits, quick: bool = False
) -> tuple[NDArray[np.uint8], float]:
    """Decode as `decode_image` does; return the shorter side in pixels too, infinity for files too large to be tiny."""
    with _open(data, limits) as image:
        side = float(min(image.size)) if len(data) <= _TINY_BYTES else math.inf
        return squared(image, size, quick=quick), side


def to_png(data: bytes, *, limits: MediaLimits) -> bytes:
    """Convert a picture that browsers do not display (TIFF, AVIF, PPM) to PNG at full size.

    Parameters
    ----------
    data, limits
        As in `decode_image`.

    Returns
    -------
    bytes
        A PNG file, upright, without metadata.

    Raises
    ------
    MediaError
        As in `decode_image`.
    """
    with _open(data, limits) as image:
        image.load()
        orientation = _orientation(image)
        converted = _to_8_bit(image)
        if orientation in _UPRIGHT:
            converted = converted.transpose(_UPRIGHT[orientation])
        out = io.BytesIO()
        converted.save(out, "PNG")
        return out.getvalue()


def make_thumbnail(data: bytes, *, side: int, limits: MediaLimits) -> bytes:
    """Make a small JPEG of a picture; keeps its proportions and never enlarges it.

    Parameters
    ----------
    data, limits
        As in `decode_image`.
    side
        Maximum of the longer side of the result, in pixels.

    Returns
    -------
    bytes
        A JPEG file, upright, without metadata.

    Raises
    ------
    MediaError
        As in `decode_image`.
    """
    with _open(data, limits) as image:
        image.draft("RGB", (side, side))
        image.load()
        orientation = _orientation(image)
        width, height = image.size
        scale = min(1.0, side / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = _to_8_bit(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        if small.mode == "RGBA":
            small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
        if orientation in _UPRIGHT:
            small = small.transpose(_UPRIGHT[orientation])
        stream = io.BytesIO()
        small.convert("RGB").save(stream, "JPEG", quality=85)
        return stream.getvalue()


@contextmanager
def _open(data: bytes, limits: MediaLimits) -> Iterator[Image.Image]:
    """Open a picture, or what stands for a video or PDF; turn the decoder's errors in the block into `MediaError`."""
    cover = cover_of(data, limits=limits)
    if cover is not None:
        yield cover
        return
    _check_content(data)
    try:
        mended = mend(data, pixels=limits.pixels)
        with Image.open(io.BytesIO(mended), formats=FORMATS) as image:
            width, height = image.size
            if width * height > limits.pixels:
                raise _too_many_pixels(limits, f"{width} x {height}")
            frames = getattr(image, "n_frames", 1) if getattr(image, "is_animated", False) else 1
            if frames > limits.frames:
                raise MediaError(f"the picture has {frames} frames, more than the limit of {limits.frames}")
            yield image
    except UnidentifiedImageError as error:
        raise MediaError(
            "the file is not a picture in a known format (JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, PPM)"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(limits, "of excessive size") from error
    except MediaError:
        raise
    except Exception as error:  # decoders raise all kinds of exceptions on damaged bytes
        raise MediaError(f"the picture is truncated or damaged: {short_reason(error)}") from error


def squared(image: Image.Image, size: int, *, quick: bool = False) -> NDArray[np.uint8]:
    """Decode, convert to 8 bits, scale, composite over white, and turn upright; `quick` as for `decode_image`."""
    # JPEG can skip high frequencies while decoding: twice the speed at the same quality.
    image.draft("RGB", (size, size))
    if quick and (pixels := quick_square(image, size)) is not None:
        turn = _UPRIGHT.get(_orientation(image))
        return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))
    image.load()
    orientation = _orientation(image)
    # If both sides shrink, Hamming's kernel gives embeddings as good as the bicubic one's for half the work.
    shrinks = image.width >= size and image.height >= size
    kernel = Image.Resampling.HAMMING if shrinks else Image.Resampling.BICUBIC
    image = _to_8_bit(image).resize((size, size), kernel, reducing_gap=3.0)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if orientation in _UPRIGHT:
        # The result is square, so rotating after scaling gives the same picture for less work.
        image = image.transpose(_UPRIGHT[orientation])
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Convert any mode to L, RGB or RGBA."""
    if image.mode.startswith("I;16"):
        return _grey(np.asarray(image).astype(np.float32) / 257.0)
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
        low, high = float(values.min()), float(values.max())
        return _grey((values - low) * (255.0 / (high - low) if high > low else 0.0))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _grey(values: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 if the EXIF block is damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - the parser raises all kinds of exceptions on damaged bytes
        return 1


def _too_many_pixels(limits: MediaLimits, what: str) -> MediaError:
    return MediaError(f"the picture is {what}, more than the limit of {limits.pixels:,} pixels")


def _check_content(data: bytes) -> None:
    """Refuse empty files, SVG and HTML, which often stand in for a picture, with a specific message."""
    if not data:
        raise MediaError("the file is empty (0 bytes)")
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<svg", b"<?xml")) or (head.startswith(b"<!") and b"<svg" in head):
        raise MediaError("the file is an SVG or XML drawing, which is not rendered; convert it to PNG")
    if head.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<script")):
        raise MediaError("the file is a web page (HTML), not a picture; the link may require a login")

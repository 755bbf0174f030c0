"""Foreign bytes to a small square of pixels or a thumbnail; fetching and what an encoder wants are elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from usl_backend.errors import MediaError
from usl_backend.media.limits import MediaLimits, short_reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

Image.init()  # here, not in the first of many threads that decode

FORMATS: Final = tuple(
    name for name in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM") if name in Image.OPEN
)
"""Pillow decoders that are allowed to see foreign bytes; the others are never tried."""

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


def decode_image(data: bytes, *, size: int, limits: MediaLimits) -> NDArray[np.uint8]:
    """Decode a picture and scale it to a square, its sides independently.

    Transparency is laid over white, EXIF rotation is applied, 16-bit grey keeps its full range (65,535 is
    white), 32-bit and floating-point grey is stretched from its smallest to its largest value, and of an
    animation the first frame counts.

    Parameters
    ----------
    data
        The file's bytes: JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF or PPM.
    size
        Side of the result in pixels.
    limits
        `pixels` and `frames` are checked before anything is decoded.

    Returns
    -------
    (size, size, 3) uint8
        Red, green, blue.

    Raises
    ------
    MediaError
        Not a picture, damaged, or over a limit; the text is the reason to show.
    """
    with _opened(data, limits) as image:
        return _square(image, size)


def to_png(data: bytes, *, limits: MediaLimits) -> bytes:
    """Turn a picture that browsers do not show (TIFF, AVIF, PPM) into one that they do, in its full size.

    Parameters
    ----------
    data, limits
        As in `decode_image`.

    Returns
    -------
    bytes
        A PNG file, upright, without any of the picture's metadata.

    Raises
    ------
    MediaError
        As in `decode_image`.
    """
    with _opened(data, limits) as image:
        image.load()
        orientation = _orientation(image)
        shown = _eight_bits(image)
        if orientation in _UPRIGHT:
            shown = shown.transpose(_UPRIGHT[orientation])
        out = io.BytesIO()
        shown.save(out, "PNG")
        return out.getvalue()


def make_thumbnail(data: bytes, *, side: int, limits: MediaLimits) -> bytes:
    """Make a small JPEG of a picture, to be looked at: its proportions are kept and it is never enlarged.

    Parameters
    ----------
    data, limits
        As in `decode_image`.
    side
        Longer side of the result in pixels, at most.

    Returns
    -------
    bytes
        A JPEG file without any of the picture's metadata.

    Raises
    ------
    MediaError
        As in `decode_image`.
    """
    with _opened(data, limits) as image:
        image.draft("RGB", (side, side))
        image.load()
        orientation = _orientation(image)
        width, height = image.size
        scale = min(1.0, side / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = _eight_bits(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        if small.mode == "RGBA":
            small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
        if orientation in _UPRIGHT:
            small = small.transpose(_UPRIGHT[orientation])
        stream = io.BytesIO()
        small.convert("RGB").save(stream, "JPEG", quality=85)
        return stream.getvalue()


@contextmanager
def _opened(data: bytes, limits: MediaLimits) -> Iterator[Image.Image]:
    """The picture, not yet decoded; what its decoder raises in the block becomes a `MediaError`."""
    _refuse_foreign(data)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
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
    except Exception as error:  # decoders fail on damaged bytes in every way there is
        raise MediaError(f"the picture is truncated or damaged: {short_reason(error)}") from error


def _square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Decode, bring to eight bits, scale, lay over white, turn upright."""
    # JPEG can leave out the fine frequencies while decoding: twice the speed at the same quality.
    image.draft("RGB", (size, size))
    image.load()
    orientation = _orientation(image)
    # Where both sides shrink, Hamming's kernel makes embeddings as good as the bicubic one for half the work.
    shrinks = image.width >= size and image.height >= size
    kernel = Image.Resampling.HAMMING if shrinks else Image.Resampling.BICUBIC
    image = _eight_bits(image).resize((size, size), kernel, reducing_gap=3.0)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if orientation in _UPRIGHT:
        # A square turns into a square, so turning after scaling gives the same picture for less work.
        image = image.transpose(_UPRIGHT[orientation])
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _eight_bits(image: Image.Image) -> Image.Image:
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
    """Read the EXIF orientation; a damaged EXIF block is no reason to lose the picture."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - the parser fails on damaged bytes in every way there is
        return 1


def _too_many_pixels(limits: MediaLimits, what: str) -> MediaError:
    return MediaError(f"the picture is {what}, more than the limit of {limits.pixels:,} pixels")


def _refuse_foreign(data: bytes) -> None:
    """Name what is often found in place of a picture."""
    if not data:
        raise MediaError("the file is empty (0 bytes)")
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<svg", b"<?xml")) or (head.startswith(b"<!") and b"<svg" in head):
        raise MediaError("the file is an SVG or XML drawing, which is not rendered; convert it to PNG")
    if head.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<script")):
        raise MediaError("the file is a web page (HTML), not a picture; perhaps the link needs a log-in")

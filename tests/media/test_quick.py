"""Quick decoding, beside Pillow with the same kernel and beside the usual way."""

import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from usl_backend.errors import MediaError
from usl_backend.media import MediaLimits, decode_image
from usl_backend.media import quick as room

LIMITS = MediaLimits()
SIZE = 64


def photograph(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth colors with edges and some noise."""
    rng = np.random.default_rng(width * height)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    smooth[height // 3 : height // 2] //= 3
    noisy = smooth + rng.integers(-9, 10, smooth.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).convert(mode)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def both(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    quick, usual = (decode_image(data, size=SIZE, limits=LIMITS, quick=one) for one in (True, False))
    assert quick.shape == usual.shape == (SIZE, SIZE, 3)
    assert (quick.dtype, quick.flags.c_contiguous) == (np.uint8, True)
    return quick, usual


def oracle(data: bytes, orientation: int = 1) -> np.ndarray:
    """Pillow's own pixels, scaled by its triangle kernel, turned upright last."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (SIZE, SIZE))
    scaled = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
    return np.asarray(scaled.transpose(turns[orientation]) if orientation in turns else scaled)


@pytest.mark.parametrize(
    ("image", "form", "options"),
    [
        (photograph(112, 112), "JPEG", {"quality": 90}),
        (photograph(225, 301), "JPEG", {"quality": 75, "progressive": True}),
        (photograph(640, 97), "JPEG", {"subsampling": 0}),
        (photograph(64, 1031), "JPEG", {}),
        (photograph(200, 150, "L"), "JPEG", {}),
        (photograph(150, 111), "PNG", {}),
        (photograph(150, 111, "L"), "PNG", {}),
        (photograph(120, 90), "WEBP", {"lossless": True}),
    ],
)
def test_decode_image__quick_pixels_are_those_of_the_other_kernel(image, form, options) -> None:
    data = saved(image, form, **options)
    quick, usual = both(data)
    apart = np.abs(quick.astype(int) - oracle(data))
    assert (apart.max() <= 1, apart.mean() < 0.2) == (True, True)
    assert 0.0 < np.abs(quick.astype(int) - usual).mean() < 6.0


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_decode_image__quick_pictures_are_upright(orientation) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photograph(130, 170), "JPEG", exif=exif)
    quick, _ = both(data)
    assert np.abs(quick.astype(int) - oracle(data, orientation)).max() <= 1


@pytest.mark.parametrize("size", [(97, 131), (224, 224), (511, 300)])
def test_decoded__jpegs_have_pillow_s_pixels(size) -> None:
    for options in ({}, {"subsampling": 0}, {"progressive": True, "quality": 60}):
        data = saved(photograph(*size), "JPEG", **options)
        image, other = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
        for one in (image, other):
            one.draft("RGB", (SIZE, SIZE))
        found = room._decoded(image)
        assert found is not None
        np.testing.assert_array_equal(found, np.asarray(other))


def test_decode_image__the_same_without_simplejpeg(monkeypatch) -> None:
    data = saved(photograph(300, 200), "JPEG")
    quick, _ = both(data)
    monkeypatch.setattr(room, "find_spec", lambda name: None if name == "simplejpeg" else 1 / 0)
    np.testing.assert_array_equal(both(data)[0], quick)
    assert importlib.util.find_spec("simplejpeg") is not None, "the extra `fast` is part of `test`"


@pytest.mark.parametrize(
    ("image", "form", "options"),
    [
        (photograph(40, 300), "JPEG", {}),  # one side grows
        (photograph(200, 200, "CMYK"), "JPEG", {}),
        (photograph(90, 90, "RGBA"), "PNG", {}),
        (photograph(90, 90), "PNG", {"transparency": photograph(90, 90).getpixel((5, 5))}),
        (photograph(90, 90, "P"), "GIF", {}),
        (photograph(SIZE * 3, SIZE * 4), "PNG", {}),  # large: Pillow reduces it first
    ],
)
def test_decode_image__the_rest_is_left_to_pillow(image, form, options) -> None:
    quick, usual = both(saved(image, form, **options))
    np.testing.assert_array_equal(quick, usual)


def test_decode_image__damage_is_told_as_usual() -> None:
    whole = saved(photograph(300, 300), "JPEG")
    for data in (whole[: len(whole) // 2], whole[:700], b"", b"\xff\xd8\xff"):
        told = []
        for quick in (True, False):
            with pytest.raises(MediaError) as caught:
                decode_image(data, size=SIZE, limits=LIMITS, quick=quick)
            told.append(str(caught.value))
        assert told[0] == told[1]
    with pytest.raises(MediaError, match="more than the limit"):
        decode_image(whole, size=SIZE, limits=MediaLimits(pixels=1000), quick=True)
    quick, usual = both(whole[:-9])  # its end is missing, which browsers forgive
    assert np.abs(quick.astype(int) - usual).mean() < 6.0

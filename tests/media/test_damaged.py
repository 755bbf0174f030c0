import io

import numpy as np
import pytest
from damaged_pictures import SIDE, chunk, not_shown, saved, scene, shown_whole, with_chunk
from PIL import Image

from usl_backend.errors import MediaError
from usl_backend.media import MediaLimits, decode_image, make_thumbnail
from usl_backend.media.damaged import mend

LIMITS = MediaLimits()
PIXELS = LIMITS.pixels
WHOLE, PARTS = shown_whole(), not_shown()


@pytest.mark.parametrize("name", WHOLE)
def test_decode_image__what_browsers_show_all_of_is_read(name: str) -> None:
    kind = "JPEG" if name.startswith(("jpeg", "progressive")) else "PNG"
    sound = decode_image(saved(kind, quality=85), size=SIDE, limits=LIMITS).astype(int)
    shown = decode_image(WHOLE[name], size=SIDE, limits=LIMITS).astype(int)
    assert np.abs(shown - sound).mean() < (5 if kind == "JPEG" else 0.001)
    # Of a JPEG one row of blocks may differ.
    assert (np.abs(shown - sound).mean(axis=(1, 2)) < 20).mean() >= 1 - 16 / SIDE
    assert make_thumbnail(WHOLE[name], side=64, limits=LIMITS)


@pytest.mark.parametrize("name", PARTS)
def test_decode_image__what_browsers_show_a_part_of_is_damaged(name: str) -> None:
    with pytest.raises(MediaError, match="truncated or damaged"):
        decode_image(PARTS[name], size=32, limits=LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_mend__sound_pictures_are_as_they_were(kind: str) -> None:
    data = saved(kind)
    assert mend(data, pixels=PIXELS) is data


def test_mend__more_behind_the_end_of_a_jpeg_is_no_damage() -> None:
    data = saved("JPEG") + b"a second picture, as phones add it"
    assert mend(data, pixels=PIXELS) is data


def test_mend__transparency_and_orientation_stay() -> None:
    image = scene().quantize(16)
    orientation = Image.Exif()
    orientation[0x0112] = 6
    data = saved("PNG", image, transparency=bytes(range(16)), exif=orientation)
    noisy = data[:33] + chunk(b"zTXt", b"a\0\0junk") + data[33:]
    np.testing.assert_array_equal(
        decode_image(noisy, size=64, limits=LIMITS), decode_image(data, size=64, limits=LIMITS)
    )
    for kind in (b"tRNS", b"eXIf"):
        assert kind in mend(noisy, pixels=PIXELS)
    assert b"zTXt" not in mend(noisy, pixels=PIXELS)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_mend__every_cut_of_a_jpeg_is_mended_whole_or_left_alone(mode: str) -> None:
    """Brute force: what is mended differs from the whole picture in no row but those of the last blocks."""
    image = scene().convert(mode).resize((96, 176))
    whole = saved("JPEG", image, quality=85)
    expected = np.asarray(Image.open(io.BytesIO(whole)).convert("L")).astype(int)
    mended = 0
    for end in range(len(whole) - 2, 0, -(len(whole) // 150)):
        data = whole[:end]
        found = mend(data, pixels=PIXELS)
        if found is data:
            continue
        mended += 1
        shown = np.asarray(Image.open(io.BytesIO(found)).convert("L")).astype(int)
        assert np.abs(shown - expected)[:-17].max() == 0, end
    assert 1 <= mended <= 30


def test_mend__a_jpeg_that_is_too_large_is_not_decoded_for_it() -> None:
    data = saved("JPEG")[:-2]
    assert mend(data, pixels=SIDE * SIDE - 1) is data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xda",
        b"\xff\xd8\xff\xc0\0\x02\xff\xda\0\x02",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 40,
        with_chunk(b"\0")[:60],
    ],
)
def test_mend__nonsense_raises_nothing(data: bytes) -> None:
    assert isinstance(mend(data, pixels=PIXELS), bytes)

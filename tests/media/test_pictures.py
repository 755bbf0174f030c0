import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from usl_backend.errors import MediaError
from usl_backend.media import MediaLimits, decode_image, decode_measured, make_thumbnail

LIMITS = MediaLimits()
RNG = np.random.default_rng(7)
SMOOTH = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        (160, 120), Image.Resampling.BICUBIC
    )
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with hardly any pixels behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    )


def difference(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(left.astype(np.float64) - right.astype(np.float64)).mean())


def reference(pixels: np.ndarray, size: int = 64) -> np.ndarray:
    kernel = Image.Resampling.HAMMING if min(pixels.shape[:2]) >= size else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(pixels).resize((size, size), kernel))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM"])
def test_decode_image__same_picture_in_every_format(kind: str) -> None:
    pixels = decode_image(encoded(Image.fromarray(SMOOTH), kind), size=64, limits=LIMITS)
    assert pixels.dtype == np.uint8
    assert difference(pixels, reference(SMOOTH)) < 6.0  # GIF has 256 colors, JPEG and WebP lose a little


@pytest.mark.parametrize("size", [64, 140, 300])  # both sides shrink, one does, none does
def test_decode_image__lossless_is_exact_scaling(size: int) -> None:
    pixels = decode_image(encoded(Image.fromarray(SMOOTH), "PNG"), size=size, limits=LIMITS)
    assert np.array_equal(pixels, reference(SMOOTH, size))


def test_decode_image__large_jpeg_by_draft_looks_like_the_full_decode() -> None:
    large = Image.fromarray(SMOOTH).resize((1000, 700), Image.Resampling.BICUBIC)
    pixels = decode_image(encoded(large, "JPEG", quality=95), size=64, limits=LIMITS)
    assert difference(pixels, reference(np.asarray(large))) < 2.0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_decode_image__exif_rotation_is_applied(orientation: int, kind: str) -> None:
    upright = Image.fromarray(SMOOTH)
    # What a camera stores so that the orientation tag turns it upright again.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_image(encoded(stored, kind, exif=exif.tobytes()), size=64, limits=LIMITS)
    assert difference(pixels, reference(SMOOTH)) < 4.0


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow tells; outside tests that is no error
def test_decode_image__damaged_exif_does_not_lose_the_picture() -> None:
    data = encoded(Image.fromarray(SMOOTH), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert difference(decode_image(data, size=64, limits=LIMITS), reference(SMOOTH)) < 4.0


def test_decode_image__cmyk_is_not_inverted() -> None:
    pixels = decode_image(encoded(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"), size=64, limits=LIMITS)
    assert difference(pixels, reference(SMOOTH)) < 6.0


def test_decode_image__sixteen_bit_grey_keeps_its_range() -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    pixels = decode_image(encoded(Image.fromarray(ramp), "PNG"), size=64, limits=LIMITS)
    np.testing.assert_array_equal(pixels[..., 0], np.rint(ramp / 257.0))
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_decode_image__floating_point_grey_is_stretched() -> None:
    ramp = np.tile(np.linspace(-3.0, 5.0, 64, dtype=np.float32), (64, 1))
    pixels = decode_image(encoded(Image.fromarray(ramp), "TIFF"), size=64, limits=LIMITS)
    np.testing.assert_array_equal(pixels[..., 1], np.rint((ramp.astype(np.float64) + 3.0) * (255.0 / 8.0)))


def test_decode_image__constant_float_is_black_not_nan() -> None:
    flat = Image.fromarray(np.full((8, 8), 2.5, dtype=np.float32))
    assert decode_image(encoded(flat, "TIFF"), size=32, limits=LIMITS).max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_decode_image__transparency_lies_over_white(mode: str) -> None:
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 64, 32))
    pixels = decode_image(encoded(image.convert(mode), "PNG"), size=64, limits=LIMITS)
    assert pixels[:28].max() <= 4
    assert pixels[36:].min() >= 251


def test_decode_image__palette_with_transparent_bytes() -> None:
    image = Image.new("P", (64, 64), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.paste(0, (0, 0, 64, 32))
    data = encoded(image, "PNG", transparency=bytes([0, 255]))
    pixels = decode_image(data, size=64, limits=LIMITS)
    np.testing.assert_array_equal(pixels[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(pixels[63, 63], [200, 100, 50])


def test_decode_image__bilevel() -> None:
    image = Image.fromarray(np.tile(np.arange(64) < 32, (64, 1)))
    pixels = decode_image(encoded(image, "PNG"), size=64, limits=LIMITS)
    assert pixels[:, :28].min() == 255
    assert pixels[:, 36:].max() == 0


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_decode_image__first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "lime", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    pixels = decode_image(data, size=32, limits=LIMITS)
    assert difference(pixels, np.broadcast_to([255, 0, 0], pixels.shape)) < 3.0


def test_decode_image__frame_cap() -> None:
    frames = [Image.new("L", (8, 8), level) for level in range(0, 250, 10)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="25 frames, more than the limit of 24"):
        decode_image(data, size=32, limits=MediaLimits(frames=24))
    decode_image(data, size=32, limits=MediaLimits(frames=25))


def test_decode_image__one_pixel_wide_and_a_million_high_is_read() -> None:
    tall = Image.fromarray(np.repeat(np.array([0, 255], dtype=np.uint8), 500_000)[:, None])
    pixels = decode_image(encoded(tall, "PNG"), size=32, limits=LIMITS)
    assert pixels[:14].max() == 0
    assert pixels[18:].min() == 255


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (10_000, 9_000), (2_000, 1_001)])
def test_decode_image__bomb_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(MediaError, match="more than the limit of 2,000,000 pixels"):
        decode_image(png_claiming(width, height), size=32, limits=MediaLimits(pixels=2_000_000))


def test_decode_image__text_chunk_bomb_is_never_inflated() -> None:
    good = encoded(Image.new("L", (8, 8), 77), "PNG")
    bomb = png_chunk(b"zTXt", b"comment\0\0" + zlib.compress(b"\0" * (200 << 20)))
    tracemalloc.start()
    shown = decode_image(good[:33] + bomb + good[33:], size=32, limits=LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (shown == 77).all()
    assert peak < 4 << 20


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_decode_image__truncated_file_is_refused(kind: str, share: float) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(MediaError, match=r"truncated or damaged|not a picture"):
        decode_image(data[: int(len(data) * share)], size=32, limits=LIMITS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "SVG"),
        (b"<?xml version='1.0'?>\n<svg/>", "SVG"),
        (b"<!DOCTYPE html><html><body>log in</body></html>", "HTML"),
        (b"  \n<HTML>", "HTML"),
        (b"%PDF-1.7\n", "the PDF is damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not a picture"),
        (b"just text", "not a picture"),
        (bytes(10_000), "not a picture"),
        (b"PK\x03\x04" + bytes(100), "not a picture"),
    ],
)
def test_decode_image__what_is_no_picture_gets_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        decode_image(data, size=32, limits=LIMITS)


def test_decode_image__polyglot_is_read_as_the_picture_it_is() -> None:
    plain = encoded(Image.fromarray(SMOOTH), "GIF")
    polyglot = plain + b"/*<script>alert(1)</script>*/PK\x03\x04"
    np.testing.assert_array_equal(
        decode_image(polyglot, size=32, limits=LIMITS), decode_image(plain, size=32, limits=LIMITS)
    )


def test_decode_image__random_damage_never_escapes_as_a_foreign_error() -> None:
    originals = [
        encoded(Image.fromarray(SMOOTH), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF")
    ]
    refused = 0
    for trial in range(600):
        data = bytearray(originals[trial % len(originals)])
        for at in RNG.integers(0, len(data), 12):
            data[at] = RNG.integers(0, 256)
        try:
            decode_image(bytes(data), size=32, limits=LIMITS)
        except MediaError:
            refused += 1
    assert refused > 100


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=["JPEG"])


def test_make_thumbnail__keeps_proportions_and_colors() -> None:
    pixels = np.zeros((300, 600, 3), dtype=np.uint8)
    pixels[:, :300] = (255, 0, 0)
    pixels[:, 300:] = (0, 0, 255)
    small = opened(make_thumbnail(encoded(Image.fromarray(pixels), "PNG"), side=96, limits=MediaLimits()))
    assert small.size == (96, 48)
    seen = np.asarray(small.convert("RGB")).astype(int)
    assert np.abs(seen[24, 10] - (255, 0, 0)).max() < 30
    assert np.abs(seen[24, 85] - (0, 0, 255)).max() < 30


def test_make_thumbnail__never_enlarges() -> None:
    small = make_thumbnail(encoded(Image.new("L", (28, 20), 200), "PNG"), side=160, limits=MediaLimits())
    assert opened(small).size == (28, 20)


def test_make_thumbnail__is_upright_without_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    exif[0x010E] = "a name that must not travel"
    data = encoded(Image.new("RGB", (200, 100), "green"), "JPEG", exif=exif)
    made = make_thumbnail(data, side=50, limits=MediaLimits())
    assert opened(made).size == (25, 50)
    assert b"must not travel" not in made


def test_make_thumbnail__transparency_lies_over_white() -> None:
    data = encoded(Image.new("RGBA", (40, 40), (0, 0, 0, 0)), "PNG")
    assert np.asarray(opened(make_thumbnail(data, side=20, limits=MediaLimits()))).min() > 250


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty"), (b"<svg/>", "SVG"), (b"GIF89a", "picture")])
def test_make_thumbnail__what_is_no_picture_gets_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        make_thumbnail(data, side=20, limits=MediaLimits())


def test_make_thumbnail__too_many_pixels_are_refused() -> None:
    data = encoded(Image.new("L", (40, 40)), "PNG")
    with pytest.raises(MediaError, match="1,000 pixels"):
        make_thumbnail(data, side=20, limits=MediaLimits(pixels=1000))


def test_decode_measured__tells_the_side_of_small_files_only() -> None:
    def png_of(width: int, height: int) -> bytes:
        stream = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
        Image.fromarray(noise).save(stream, "PNG")
        return stream.getvalue()

    def side(data: bytes) -> float:
        pixels, found = decode_measured(data, size=8, limits=LIMITS, quick=True)
        assert np.array_equal(pixels, decode_image(data, size=8, limits=LIMITS, quick=True))
        return found

    assert (side(png_of(9, 5)), side(png_of(5, 90))) == (5, 5)
    assert side(png_of(200, 90)) == np.inf
    # A JPEG is opened at its own size, not at that of its draft.
    assert side(encoded(Image.new("RGB", (96, 64)), "JPEG")) == 64

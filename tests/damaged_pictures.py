"""Pictures with damage of every kind, and whether a browser shows all of them; no tests."""

import io
import os
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, PngImagePlugin

SIDE = 256


def scene() -> Image.Image:
    """A picture with something of every size in it."""
    rng = np.random.default_rng(0)
    large = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )
    return Image.fromarray(
        np.clip(np.asarray(large).astype(int) + rng.integers(-12, 12, (SIDE, SIDE, 3)), 0, 255).astype(
            np.uint8
        )
    )


def saved(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (image or scene()).save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes, *, sound: bool = True) -> bytes:
    checksum = zlib.crc32(kind + content) ^ (not sound)
    return len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big")


def with_chunk(more: bytes) -> bytes:
    """A PNG with a chunk behind its head."""
    whole = saved("PNG")
    return whole[:33] + more + whole[33:]


def text(add: Callable[[PngImagePlugin.PngInfo], None]) -> bytes:
    info = PngImagePlugin.PngInfo()
    add(info)
    return saved("PNG", pnginfo=info)


def cut_in_scan(number: int) -> bytes:
    """A progressive JPEG that ends in the middle of a scan, counted from 1."""
    whole = saved("JPEG", quality=85, progressive=True)
    starts = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"] + [len(whole)]
    return whole[: (starts[number - 1] + starts[number]) // 2]


def shown_whole() -> dict[str, bytes]:
    """Browsers show all of these, but for one row of blocks of some JPEGs."""
    jpeg, png = saved("JPEG", quality=85), saved("PNG")
    return {
        "jpeg without end": jpeg[:-2],
        "jpeg without its last bytes": jpeg[:-10],
        "jpeg with zeros in place of its end": jpeg[:-2] + bytes(1000),
        "progressive without end": saved("JPEG", quality=85, progressive=True)[:-2],
        "progressive cut in its last scan": cut_in_scan(10),
        "progressive cut while it is refined": cut_in_scan(7),
        "text of 1.1 MB": text(lambda info: info.add_text("workflow", "b" * 1_100_000, zip=True)),
        "international text of 1.1 MB": text(
            lambda info: info.add_itxt("XML:com.adobe.xmp", "a" * 1_100_000, zip=True)
        ),
        "profile of 1.2 MB": saved("PNG", icc_profile=os.urandom(1_200_000)),
        "text that is a bomb": with_chunk(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(30_000_000)))),
        "damaged text": with_chunk(chunk(b"tEXt", b"a\0b", sound=False)),
        "damaged profile": with_chunk(chunk(b"iCCP", b"a\0\0junk")),
        "gamma of the wrong length": with_chunk(chunk(b"gAMA", b"a")),
        "size of the wrong length": with_chunk(chunk(b"pHYs", b"a")),
        "transparency of the wrong length": with_chunk(chunk(b"tRNS", b"a")),
        "damaged orientation": with_chunk(chunk(b"eXIf", b"zz")),
        "damaged animation": with_chunk(chunk(b"acTL", b"zz")),
        "png without end": png[:-12],
        "png without end and checksum": png[:-20],
        "png with more behind it": png + b"junk" * 100,
    }


def not_shown() -> dict[str, bytes]:
    """Browsers show nothing of these, or only a part."""
    jpeg, png = saved("JPEG", quality=85), saved("PNG")
    return {
        "jpeg that lacks a tenth": jpeg[: len(jpeg) * 9 // 10],
        "half a jpeg": jpeg[: len(jpeg) // 2],
        "head of a jpeg": jpeg[:300],
        "progressive cut in its first scan": cut_in_scan(1),
        "progressive cut in its second scan": cut_in_scan(2),
        "half a png": png[: len(png) // 2],
        "head of a png": png[:33],
        "cut in a text": png[:33] + (10**6).to_bytes(4, "big") + b"tEXtx",
    }

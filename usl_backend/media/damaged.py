"""Mend what browsers forgive in pictures: PNGs with bad or huge side information, JPEGs that lack their end.

The limits were measured in Chromium 156: it ignores side information of a PNG that it cannot use, shows all of a PNG
whose rows are complete, all of a progressive JPEG from the moment on that a first version of every block is there, and
of another JPEG all rows of blocks but the last that is incomplete. What it shows only a part of stays damaged here.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PICTURE: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
"""Chunks that hold the picture, or the one that is shown where animations are not."""
_ORIENTATION: Final = b"eXIf"
_TRANSPARENCY: Final = b"tRNS"
_TRANSPARENCY_BYTES: Final = {0: range(2, 3), 2: range(6, 7), 3: range(1, 257)}
"""Kind of colors -> possible lengths; other kinds have none."""
_END: Final = b"\xff\xd9"
_MARKER: Final = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_BASELINE: Final = frozenset({0xC0, 0xC1})
_PROGRESSIVE: Final = 0xC2
_SCAN: Final = 0xDA
_NOISE: Final = bytes(range(1, 255)) * 16
"""Bits that decode to something else than the zeros that the decoder puts in the place of missing ones."""
_LOST: Final = 0.1
"""Share of the height that an incomplete last row of blocks may have."""


def mend(data: bytes, *, pixels: int) -> bytes:
    """Return the bytes of a picture of at most so many pixels without the damage that browsers forgive.

    Any other bytes, also those of pictures that are larger or damaged beyond that, are returned as they are.
    """
    if data.startswith(_PNG):
        return _mend_png(data)
    if data.startswith(b"\xff\xd8") and not data.endswith(_END):
        return _mend_jpeg(data, pixels)
    return data


# -- PNG ---------------------------------------------------------------------------------------------------


def _mend_png(data: bytes) -> bytes:
    """Leave out all but the picture, sound transparency and orientation, and complete the end."""
    if len(data) < 33:
        return data
    kept: list[bytes] = [_PNG]
    changed = False
    for kind, whole in _chunks(data):
        if kind in _PICTURE or _is_needed(kind, whole, colors=data[25]):
            kept.append(whole)
        else:
            changed = True
        if kind == b"IEND":
            return b"".join(kept) if changed else data
    last = kept[-1]
    if last[4:8] == b"IDAT":
        # Cut off after this chunk or in the middle of it.
        kept[-1] = _chunk(b"IDAT", last[8 : 8 + int.from_bytes(last[:4], "big")])
    return b"".join([*kept, _chunk(b"IEND", b"")])


def _is_needed(kind: bytes, whole: bytes, *, colors: int) -> bool:
    """Tell whether a chunk of side information changes how the picture looks, and is sound."""
    if kind not in (_ORIENTATION, _TRANSPARENCY) or zlib.crc32(whole[4:-4]) != int.from_bytes(
        whole[-4:], "big"
    ):
        return False
    return kind == _ORIENTATION or len(whole) - 12 in _TRANSPARENCY_BYTES.get(colors, ())


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and bytes of each chunk; an IDAT that is cut off is the last."""
    at = len(_PNG)
    while at + 8 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            if kind == b"IDAT":
                yield kind, data[at:]
            return
        yield kind, data[at:end]
        at = end


def _chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


# -- JPEG --------------------------------------------------------------------------------------------------


@dataclass
class _Layout:
    """What the markers of a JPEG say."""

    progressive: bool = False
    width: int = 0
    height: int = 0
    block: int = 8
    components: set[int] = field(default_factory=set)
    scans: list[tuple[set[int], range, bool]] = field(default_factory=list)
    """Components, coefficients, and whether it is the first scan over them."""
    ends: bool = False


def _mend_jpeg(data: bytes, pixels: int) -> bytes:
    """Add the end marker where what is missing before it is no more than browsers show without a gap."""
    layout = _layout(data)
    if layout.ends or not layout.scans or layout.width * layout.height > pixels:
        return data
    ended = data.rstrip(b"\xff") + _END
    complete = _first_version(layout) if layout.progressive else _nearly_complete(layout, data, ended)
    return ended if complete else data


def _first_version(layout: _Layout) -> bool:
    """Tell whether all scans but the last hold a first version of every coefficient of the brightness, and all DC."""
    first = [scan for scan in layout.scans[:-1] if scan[2]]
    flat = set().union(*(components for components, band, _ in first if 0 in band))
    brightness = min(layout.components)
    bands = {one for components, band, _ in first if brightness in components for one in band}
    return flat == layout.components and bands == set(range(64))


def _nearly_complete(layout: _Layout, data: bytes, ended: bytes) -> bool:
    """Tell whether no more than the last row of blocks depends on what comes after the bytes that are there."""
    if set().union(*(components for components, _, _ in layout.scans)) != layout.components:
        return False
    try:
        shown, other = _brightness(ended), _brightness(data.rstrip(b"\xff") + _NOISE + _END)
    except Exception:  # noqa: BLE001 - decoders raise all kinds of exceptions on damaged bytes
        return False
    rows = np.flatnonzero((shown != other).any(axis=1))
    lost = len(shown) - int(rows[0]) if len(rows) else 0
    return lost == 0 or lost <= min(layout.block, _LOST * layout.height)


def _brightness(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.draft("L", image.size)
        return np.asarray(image.convert("L"))


def _layout(data: bytes) -> _Layout:
    """Read the markers from the start as far as they go."""
    found, at = _Layout(), 2
    while (match := _MARKER.search(data, at)) is not None:
        marker, at = match[1][0], match.end()
        if marker == 0xD9:
            found.ends = True
            break
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        at += max(length, 2)
        if marker in _BASELINE or marker == _PROGRESSIVE:
            found.progressive = marker == _PROGRESSIVE
            _read_frame(found, body)
        elif marker == _SCAN and body:
            count = body[0]
            if len(body) >= 4 + 2 * count:
                first, last, approximation = body[1 + 2 * count : 4 + 2 * count]
                components = set(body[1 : 1 + 2 * count : 2])
                found.scans.append((components, range(first, last + 1), approximation >> 4 == 0))
    return found


def _read_frame(found: _Layout, body: bytes) -> None:
    """Read the size, the components, and the height of a block in pixels."""
    parts = body[6:]
    found.height, found.width = (int.from_bytes(body[at : at + 2], "big") for at in (1, 3))
    found.components = set(parts[0::3])
    found.block = 8 * max((sampling & 15 for sampling in parts[1::3]), default=1)

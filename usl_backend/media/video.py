"""Decode frames of an untrusted video, spread evenly over it; sound and subtitles are left alone.

A first pass over the packets, which decodes nothing, finds where each picture lies and which key frame it needs; then
only the stretches from a key frame to a chosen picture are decoded. So neither an index nor a stated duration is
needed or trusted, and the same bytes give the same frames.
"""

from __future__ import annotations

import io
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from usl_backend.errors import MediaError
from usl_backend.media.limits import MediaLimits, short_reason

if TYPE_CHECKING:
    from PIL import Image

FRAMES: Final = 8
"""Frames that stand for a video."""
_CODECS: Final = frozenset(
    """av1 libdav1d libaom-av1 h264 hevc mjpeg mpeg1video mpeg2video mpeg4 prores theora vp8 libvpx vp9
    libvpx-vp9""".split()  # noqa: SIM905
)
"""Decoders to use for untrusted bytes; the others are never opened."""
_LONGEST_STRETCH: Final = 3_000
"""Most pictures to decode from a key frame on; a later picture of a longer stretch is never chosen."""
_MOST_PACKETS: Final = 2_000_000
"""Packets of about a day of video."""
_PICTURES: Final = frozenset({b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1"})
"""Brands of files that are laid out like MP4, but hold pictures."""


@dataclass(frozen=True, slots=True)
class _Coded:
    """A coded picture: its place in decoding order, that of the key frame it needs, and when it is shown."""

    place: int
    key: int
    pts: int


def demuxer_of(data: bytes) -> str:
    """Return FFmpeg's name of a video's container format by its first bytes; "" for anything but a video."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "" if data[8:12] in _PICTURES and data[4:8] == b"ftyp" else "mov"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    for start, name in (
        (b"\x1aE\xdf\xa3", "matroska"),
        (b"OggS", "ogg"),
        (b"\0\0\1\xba", "mpeg"),
        (b"\0\0\1\xb3", "mpegvideo"),
        (b"FLV\1", "flv"),
    ):
        if data.startswith(start):
            return name
    return "mpegts" if data[:1] == data[188:189] == data[376:377] == b"G" else ""


class Video:
    """The frames that stand for a video: up to `FRAMES`, one of each equal stretch of time.

    Parameters
    ----------
    data
        The file's bytes: MP4, QuickTime, WebM, Matroska, AVI, Ogg, MPEG or Flash.
    limits
        `pixels` of a frame; `seconds` for finding the frames, and as many for decoding them.

    Raises
    ------
    MediaError
        Not a video, damaged, without pictures, over a limit, or PyAV is not installed.
    """

    def __init__(self, data: bytes, *, limits: MediaLimits) -> None:
        self._data, self._limits = data, limits
        deadline = time.monotonic() + limits.seconds
        with self._opened() as (container, stream):
            coded = list(_coded_pictures(container.demux(stream), deadline))
        self._chosen = _spread(coded)
        if not self._chosen:
            raise MediaError("the video has no picture that can be decoded")

    def __len__(self) -> int:
        return len(self._chosen)

    def pictures(self, places: Sequence[int]) -> dict[int, Image.Image | MediaError]:
        """Decode some of the frames, upright and at full size.

        Parameters
        ----------
        places
            Of the frames, 0 being the first.

        Returns
        -------
        dict
            Place -> picture, or why it cannot be decoded.

        Raises
        ------
        MediaError
            The video is damaged, or decoding takes too long.
        """
        deadline = time.monotonic() + self._limits.seconds
        wanted = {self._chosen[place] for place in places}
        found: dict[_Coded, Any] = {}
        with self._opened() as (container, stream):
            packets = enumerate(packet for packet in container.demux(stream) if packet.size)
            for key, targets in _stretches(wanted):
                found |= _decoded(stream.codec_context, packets, key, targets, deadline)
            missing = MediaError("the frame cannot be decoded")
            return {
                place: self._picture(found[one]) if (one := self._chosen[place]) in found else missing
                for place in places
            }

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """Open the video; turn the library's errors in the block into `MediaError`."""
        demuxer = demuxer_of(self._data)
        if not demuxer:
            raise MediaError(
                "the file is not a video in a known format (MP4, WebM, QuickTime, Matroska, AVI, Ogg, MPEG)"
            )
        try:
            import av
        except ImportError as error:
            raise MediaError(f'videos need PyAV ({error}): pip install "usl-backend[video]"') from error
        # No other demuxer, and no other file or address that the video may name.
        options = {"protocol_whitelist": "none"}
        try:
            with av.open(io.BytesIO(self._data), format=demuxer, options=options) as container:
                stream = container.streams.best("video")
                if stream is None:
                    raise MediaError("the file has no pictures, only sound")
                codec: Any = stream.codec_context
                if codec.codec.name not in _CODECS:
                    raise MediaError(
                        f"the video is coded as {codec.codec.name}, which is not read; convert it to H.264"
                    )
                self._check(codec.width, codec.height)
                codec.thread_count = 1  # several videos are read at once
                yield container, stream
        except MediaError:
            raise
        except Exception as error:  # the library raises all kinds of exceptions on damaged bytes
            raise MediaError(f"the video is damaged: {short_reason(error)}") from error

    def _check(self, width: int, height: int) -> None:
        """Refuse frames with too many pixels."""
        if width * height > self._limits.pixels:
            raise MediaError(
                f"the video is {width} x {height}, more than the limit of {self._limits.pixels:,} pixels"
            )

    def _picture(self, frame: Any) -> Image.Image:
        """Convert a frame to red, green and blue, and turn it upright."""
        self._check(frame.width, frame.height)
        picture: Image.Image = frame.to_image()
        return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _coded_pictures(packets: Iterator[Any], deadline: float) -> Iterator[_Coded]:
    """Yield the pictures that can be decoded, in decoding order; stop where damaged packets begin."""
    key: tuple[int, int] | None = None
    place = -1
    try:
        for packet in packets:
            if not packet.size:
                continue
            place += 1
            pts = packet.dts if packet.pts is None else packet.pts
            if place >= _MOST_PACKETS:
                raise MediaError(f"the video has more than {_MOST_PACKETS:,} pictures")
            if time.monotonic() > deadline:
                raise MediaError("finding the pictures of the video takes too long")
            if packet.is_corrupt or pts is None:
                continue
            if packet.is_keyframe:
                key = place, pts
            # Pictures that are shown before their key frame need the one before it too.
            if (
                key is not None
                and pts >= key[1]
                and place - key[0] < _LONGEST_STRETCH
                and not packet.is_discard
            ):
                yield _Coded(place, key[0], pts)
    except (OSError, ValueError):
        if key is None:
            raise


def _spread(coded: Sequence[_Coded]) -> tuple[_Coded, ...]:
    """Choose a picture of each of `FRAMES` equal stretches of time, in the order of time.

    It is the key frame nearest to the middle of its stretch, which is cheap, or where it has none the picture nearest
    to the middle. There are fewer where the video has fewer.
    """
    shown = sorted({one.pts: one for one in coded}.values(), key=lambda one: one.pts)
    if not shown:
        return ()
    times, keys = [one.pts for one in shown], [one for one in shown if one.key == one.place]
    key_times = [one.pts for one in keys]
    start = times[0]
    span = times[-1] - start + max(1, (times[-1] - start) // max(1, len(times) - 1))
    chosen: dict[_Coded, None] = {}
    for part in range(FRAMES):
        low, high = start + span * part / FRAMES, start + span * (part + 1) / FRAMES
        middle = (low + high) / 2
        key = _nearest(keys, key_times, middle)
        inside = key is not None and low <= key.pts < high
        one = key if inside else _nearest(shown, times, middle)
        if one is not None:
            chosen[one] = None
    return tuple(sorted(chosen, key=lambda one: one.pts))


def _nearest(shown: Sequence[_Coded], times: Sequence[int], moment: float) -> _Coded | None:
    """Return the picture that is shown nearest to a moment, the earlier of two; None without any."""
    after = bisect_right(times, moment)
    near = shown[max(0, after - 1) : after + 1]
    return min(near, key=lambda one: abs(one.pts - moment), default=None)


def _stretches(wanted: set[_Coded]) -> list[tuple[int, list[_Coded]]]:
    """Group pictures by the key frame they need, in decoding order."""
    groups: dict[int, list[_Coded]] = {}
    for one in sorted(wanted, key=lambda one: one.place):
        groups.setdefault(one.key, []).append(one)
    return sorted(groups.items())


def _decoded(
    codec: Any, packets: Iterator[tuple[int, Any]], key: int, targets: Sequence[_Coded], deadline: float
) -> dict[_Coded, Any]:
    """Decode from a key frame on, and return the frames of the targets, or those shown just before them."""
    best: dict[_Coded, Any] = {}

    def keep(frames: Sequence[Any]) -> None:
        for frame in frames:
            pts = frame.dts if frame.pts is None else frame.pts
            for one in targets:
                if pts is not None and pts <= one.pts and (one not in best or best[one][0] < pts):
                    best[one] = pts, frame

    if codec.is_open:
        codec.flush_buffers()
    for place, packet in packets:
        if place < key:
            continue
        if time.monotonic() > deadline:
            raise MediaError("decoding the video takes too long")
        try:
            keep(codec.decode(packet))
            if place >= targets[-1].place:
                keep(codec.decode(None))  # those that the decoder holds back
                break
        except (OSError, ValueError):
            break  # a damaged picture ends what can be decoded from this key frame on
    return {one: frame for one, (_, frame) in best.items()}

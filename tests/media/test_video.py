import io
import sys

import av
import numpy as np
import pytest
from moving_pictures import BLUE, GREEN, GREY, RED, Color, near, only_sound, video
from PIL import Image

from usl_backend.errors import MediaError
from usl_backend.media import MediaLimits
from usl_backend.media.video import FRAMES, Video, _Coded, _spread, _stretches, demuxer_of

EIGHT = [RED, GREEN, BLUE, GREY, GREEN, RED, GREY, BLUE]


def colors(data: bytes) -> list[Color | None]:
    """The named color nearest to that in the middle of each frame; None for a frame that cannot be decoded."""
    opened = Video(data, limits=MediaLimits())
    pictures = opened.pictures(range(len(opened)))
    return [near(pictures[place]) for place in range(len(opened))]


@pytest.mark.parametrize(
    ("container", "codec", "demuxer"),
    [
        ("mp4", "libx264", "mov"),
        ("mov", "mpeg4", "mov"),
        ("webm", "libvpx-vp9", "matroska"),
        ("matroska", "libx264", "matroska"),
        ("avi", "mpeg4", "avi"),
        ("mpegts", "libx264", "mpegts"),
        ("mpeg", "mpeg2video", "mpeg"),
    ],
)
@pytest.mark.parametrize("gop", [7, 400])
def test_video__a_frame_of_each_eighth(container: str, codec: str, demuxer: str, gop: int) -> None:
    data = video(EIGHT, format=container, codec=codec, gop=gop)
    assert demuxer_of(data) == demuxer
    assert colors(data) == EIGHT


def test_video__frames_are_those_of_decoding_it_all() -> None:
    data = video([RED, BLUE], each=40, gop=30)
    with av.open(io.BytesIO(data)) as container:
        whole = {frame.pts: np.asarray(frame.to_image()) for frame in container.decode(video=0)}
    opened = Video(data, limits=MediaLimits())
    assert len(opened) == FRAMES
    pictures = opened.pictures(range(FRAMES))
    for place, one in enumerate(opened._chosen):
        np.testing.assert_array_equal(np.asarray(pictures[place]), whole[one.pts])
    # Each lies in its own eighth, in order.
    step = max(whole) / 79 * 80 / FRAMES
    assert [int(one.pts // step) for one in opened._chosen] == list(range(FRAMES))
    # Asked for alone, a frame is the same.
    np.testing.assert_array_equal(np.asarray(opened.pictures([5])[5]), np.asarray(pictures[5]))


@pytest.mark.parametrize("count", [1, 3])
def test_video__short_ones_have_fewer_frames(count: int) -> None:
    assert colors(video(EIGHT[:count], each=1)) == EIGHT[:count]


def test_video__sound_is_left_alone() -> None:
    assert colors(video(EIGHT, sound=True)) == EIGHT


def test_video__turned_phone_films_are_upright() -> None:
    data = video([RED], size=(160, 120))
    # A quarter turn to the right in the header of the track, as phones write it.
    plain = b"\0\1\0\0" + b"\0" * 12 + b"\0\1\0\0"
    turned = b"\0\0\0\0\0\1\0\0\0\0\0\0\xff\xff\0\0\0\0\0\0"
    at = data.index(plain, data.index(b"tkhd"))
    upright = Video(data[:at] + turned + data[at + 20 :], limits=MediaLimits()).pictures([0])[0]
    assert isinstance(upright, Image.Image)
    assert upright.size == (120, 160)


def test_video__cut_off_one_shows_what_is_there() -> None:
    data = video(EIGHT, format="matroska", each=20)
    found = colors(data[: len(data) * 3 // 4])
    assert found[0] == RED
    assert BLUE not in found[-1:]
    assert None not in found


def test_video__without_duration_or_index() -> None:
    # MediaRecorder of browsers writes neither; a TS stream never does.
    data = video(EIGHT, format="mpegts", gop=20)
    assert colors(data[188 * 2 :] if demuxer_of(data[188 * 2 :]) else data) == EIGHT


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not a video in a known format"),
        (b"\x89PNG\r\n\x1a\n", "is not a video in a known format"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "is not a video in a known format"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "is not a video in a known format"),
        (b"\0\0\0\x20ftypavif" + b"\0" * 40, "is not a video in a known format"),
        (b"\0\0\0\x20ftypisom" + b"\0" * 400, "the video is damaged"),
        (b"\x1aE\xdf\xa3" + b"\0" * 400, "the video is damaged"),
    ],
)
def test_video__what_cannot_be_used_is_named(data: bytes, said: str) -> None:
    with pytest.raises(MediaError, match=said):
        Video(data, limits=MediaLimits())


def test_video__damage_in_the_middle_costs_only_its_frames() -> None:
    data = bytearray(video(EIGHT, each=20, gop=20, size=(320, 240)))
    middle = len(data) // 2
    data[middle : middle + 200] = b"\xff" * 200
    found = colors(bytes(data))
    assert found[0] == RED
    assert len(found) == FRAMES


def test_video__sound_alone_has_no_pictures() -> None:
    with pytest.raises(MediaError, match="no pictures, only sound"):
        Video(only_sound(), limits=MediaLimits())


def test_video__limits_of_pixels_and_time() -> None:
    data = video(EIGHT)
    with pytest.raises(MediaError, match=r"the video is 160 x 120, more than the limit of 1,000 pixels"):
        Video(data, limits=MediaLimits(pixels=1_000))
    with pytest.raises(MediaError, match="finding the pictures of the video takes too long"):
        Video(data, limits=MediaLimits(seconds=-1))
    opened = Video(data, limits=MediaLimits())
    opened._limits = MediaLimits(seconds=-1)
    with pytest.raises(MediaError, match="decoding the video takes too long"):
        opened.pictures([7])


def test_video__coded_in_an_unusual_way_is_not_decoded() -> None:
    with pytest.raises(MediaError, match=r"the video is (coded as ffv1, which is not read|damaged)"):
        Video(video(EIGHT, format="matroska", codec="ffv1"), limits=MediaLimits())


def test_video__missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = video([RED])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MediaError, match=r'pip install "usl-backend\[video\]"'):
        Video(data, limits=MediaLimits())


def test_spread__key_frames_are_preferred_within_their_eighth() -> None:
    coded = [_Coded(place, place - place % 10, place) for place in range(80)]
    assert [one.pts for one in _spread(coded)] == [0, 10, 20, 30, 40, 50, 60, 70]
    one_key = [_Coded(place, 0, place) for place in range(80)]
    assert [one.pts for one in _spread(one_key)] == [0, 15, 25, 35, 45, 55, 65, 75]


def test_spread__frames_that_stand_still_are_not_repeated() -> None:
    coded = [_Coded(place, 0, pts) for place, pts in enumerate([0, 1, 2, 79])]
    assert [one.pts for one in _spread(coded)] == [0, 2, 79]
    assert _spread([]) == ()


@pytest.mark.parametrize(("gop", "most"), [(25, FRAMES), (250, 3 * 250)])
def test_video__only_what_the_frames_need_is_decoded(gop: int, most: int) -> None:
    opened = Video(video(EIGHT, each=200, gop=gop, size=(64, 48)), limits=MediaLimits())
    decoded = sum(targets[-1].place - key + 1 for key, targets in _stretches(set(opened._chosen)))
    assert FRAMES <= decoded <= most

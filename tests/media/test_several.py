import pytest
from moving_pictures import BLUE, GREEN, GREY, RED, near, pdf, video

from usl_backend.media import MediaLimits, open_several
from usl_backend.media.several import cover_of
from usl_backend.media.video import _coded_pictures

PNG = b"\x89PNG\r\n\x1a\n"


class Packet:
    """What a demuxer yields."""

    def __init__(self, pts: int, *, key: bool = False, discard: bool = False) -> None:
        self.pts, self.dts, self.is_keyframe, self.is_discard = pts, pts, key, discard
        self.size, self.is_corrupt = 1, False


def test_cover_of__middle_frame_or_first_page() -> None:
    limits = MediaLimits()
    film = cover_of(video([RED, RED, RED, RED, BLUE, GREY, GREY, GREY]), limits=limits)
    page = cover_of(pdf([(GREEN, "x"), (RED, "y")]), limits=limits)
    assert film is not None
    assert page is not None
    assert (near(film), near(page)) == (BLUE, GREEN)
    assert cover_of(PNG, limits=limits) is None


@pytest.mark.parametrize(("data", "count"), [(video([RED]), 8), (pdf([(RED, "x")] * 3), 3)])
def test_open_several__counts_its_pictures(data: bytes, count: int) -> None:
    opened = open_several(data, limits=MediaLimits())
    assert opened is not None
    assert len(opened) == count
    assert open_several(PNG, limits=MediaLimits()) is None


def test_coded_pictures__what_needs_an_earlier_key_frame_is_left_out() -> None:
    packets = [Packet(3), Packet(5, key=True), Packet(4), Packet(6), Packet(7, discard=True)]
    assert [one.pts for one in _coded_pictures(iter(packets), float("inf"))] == [5, 6]

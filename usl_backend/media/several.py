"""Tell files that hold several pictures, videos and PDFs, and open them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from usl_backend.media.pdf import Pdf, is_pdf
from usl_backend.media.video import Video, demuxer_of

if TYPE_CHECKING:
    from PIL import Image

    from usl_backend.errors import MediaError
    from usl_backend.media.limits import MediaLimits


class Pictures(Protocol):
    """Several pictures that one file holds: frames of a video, or pages of a PDF."""

    def __len__(self) -> int: ...

    def pictures(self, places: Sequence[int], /) -> Mapping[int, Image.Image | MediaError]:
        """Decode the pictures at some places, 0 being the first; of a broken one return why."""


def kind_of_file(data: bytes) -> str:
    """Return "video" or "pdf" for a file that holds several pictures, "" for any other."""
    if demuxer_of(data):
        return "video"
    return "pdf" if is_pdf(data) else ""


def open_several(data: bytes, *, limits: MediaLimits) -> Pictures | None:
    """Open a video or PDF; None for any other file.

    Raises
    ------
    MediaError
        It is damaged, encrypted, empty or over a limit, or the extra that reads it is not installed.
    """
    kind = kind_of_file(data)
    if kind == "video":
        return Video(data, limits=limits)
    return Pdf(data, limits=limits) if kind == "pdf" else None


def cover_of(data: bytes, *, limits: MediaLimits) -> Image.Image | None:
    """Return the picture that stands for a video or PDF where only one can be shown; None for any other file.

    It is the middle frame of a video and the first page of a PDF.

    Raises
    ------
    MediaError
        As `open_several`, or that picture is broken.
    """
    opened = open_several(data, limits=limits)
    if opened is None:
        return None
    place = 0 if isinstance(opened, Pdf) else len(opened) // 2
    picture = opened.pictures([place])[place]
    if isinstance(picture, Exception):
        raise picture
    return picture

"""What a picture may cost and where it is; reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from usl_backend.errors import MediaError


class UnavailableError(MediaError):
    """The source did not answer or was busy: the instance itself is not at fault and may be tried again."""


class UnauthorizedError(MediaError):
    """The source answered 401: the credentials of this location are not, or no longer, accepted."""


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What one picture may cost.

    Attributes
    ----------
    bytes
        Largest file or answer, in bytes.
    seconds
        Longest time for one fetch, redirects included, in seconds.
    pixels
        Largest width times height, checked before anything is decoded.
    frames
        Most frames of an animation or pages of a document; the first one is what is read.
    redirects
        Most redirects that are followed.
    """

    bytes: int = 64 << 20
    seconds: float = 30.0
    pixels: int = 64_000_000
    frames: int = 2_000
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Location:
    """Where the bytes of one instance are, and what may be shown to whoever keeps them.

    Attributes
    ----------
    url
        http, https or data URL, else None.
    path
        File below one of the reader's local roots, else None.
    headers
        Sent to the origin of `url` only, never across a redirect to another origin.
    trusted
        The operator named this origin (Label Studio's), so it may have a private address. Says nothing about
        where it redirects to.
    """

    url: str | None = None
    path: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    trusted: bool = False


def short_reason(error: BaseException) -> str:
    """Shorten the text of a foreign error, without the paths that OSError appends.

    Parameters
    ----------
    error
        From the operating system or a library.

    Returns
    -------
    str
        One line, at most 160 characters, never empty.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:160] or type(error).__name__

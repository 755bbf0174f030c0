"""Types of the media room: limits, locations and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from usl_backend.errors import MediaError


class UnavailableError(MediaError):
    """The source did not answer or was busy: the instance itself may be fine, so a retry makes sense.

    Attributes
    ----------
    host : str
        Host that failed, with its port if that is not the scheme's, or `s3://bucket`; "" if there is none.
    busy : bool
        The host is there and asks for fewer requests.
    retry_after : float or None
        Seconds for which it asks to be left alone.
    """

    def __init__(
        self, message: str, *, host: str = "", busy: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.host, self.busy, self.retry_after = host, busy, retry_after


class UnauthorizedError(MediaError):
    """The source answered 401: it does not accept the credentials of this location (any more)."""


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Limits for reading one picture.

    Attributes
    ----------
    bytes
        Largest file or answer, in bytes.
    seconds
        Longest time for one fetch, including redirects, in seconds.
    pixels
        Largest width times height, checked before decoding.
    frames
        Most frames of an animation or pages of a document; only the first is read.
    redirects
        Most redirects to follow.
    """

    bytes: int = 64 << 20
    seconds: float = 30.0
    pixels: int = 64_000_000
    frames: int = 2_000
    redirects: int = 5


@dataclass(frozen=True, slots=True)
class Location:
    """Location of an instance's bytes, with credentials.

    Attributes
    ----------
    url
        http, https or data URL, else None.
    path
        File below one of the reader's local roots, else None.
    headers
        Sent to the origin of `url` only, never across a redirect to another origin.
    trusted
        The operator configured this origin (Label Studio's), so it may have a private address. Does not extend to
        targets of redirects.
    """

    url: str | None = None
    path: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    trusted: bool = False


def short_reason(error: BaseException) -> str:
    """Shorten an error of the system or a library to one line of 1 to 160 characters, without OSError's paths."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:160] or type(error).__name__

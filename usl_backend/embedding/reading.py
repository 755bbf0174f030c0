"""One located picture to pixels, here or in processes of their own; what becomes of the outcome is `stage.py`.

Threads of one Python process decode no more than two or three cores' worth of pictures, because they take turns at
everything that is not in C. That is plenty beside an encoder on a CPU. A GPU waits for it, so there processes read.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from usl_backend.errors import MediaError
from usl_backend.media import Location, MediaReader, UnauthorizedError, UnavailableError, decode_image

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

PREFIX_BYTES: Final = 8
"""Bytes of a content hash by which another process tells, nearly always, what is known."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading one location gave.

    Attributes
    ----------
    content_hash
        SHA-256 of the bytes, hexadecimal; "" where there are none.
    content : (size, size, 3) uint8 or None
        None where it cannot be decoded or nobody wanted it.
    reason
        Why there is no content though it was wanted; "" where nothing went wrong.
    unavailable
        The source did not answer.
    unauthorized
        The source answered 401.
    """

    content_hash: str = ""
    content: NDArray[np.uint8] | None = None
    reason: str = ""
    unavailable: bool = False
    unauthorized: bool = False


def read_picture(
    reader: MediaReader, location: Location, *, size: int, wanted: Callable[[str], bool]
) -> Reading:
    """Read, hash and decode a picture.

    Parameters
    ----------
    reader
        Reads it under its limits.
    location
        Where it is.
    size
        Side in pixels.
    wanted
        Whether the content of this hash is to be decoded.

    Returns
    -------
    Reading
        With a reason where the picture cannot be had.
    """
    try:
        data = reader.read(location)
    except MediaError as error:
        return Reading(
            reason=str(error),
            unavailable=isinstance(error, UnavailableError),
            unauthorized=isinstance(error, UnauthorizedError),
        )
    content_hash = hashlib.sha256(data).hexdigest()
    if not wanted(content_hash):
        return Reading(content_hash)
    try:
        return Reading(content_hash, decode_image(data, size=size, limits=reader.limits))
    except MediaError as error:
        return Reading(content_hash, reason=str(error))


class ReadingProcess:
    """A process that reads and decodes; it ends with the one that started it, however that one ends.

    Parameters
    ----------
    reader
        The process has one like it.
    size
        Side of the pictures in pixels.
    known : (k,) uint64
        First 8 bytes, as ascending numbers, of the hashes of contents that need not be decoded.
    """

    def __init__(self, reader: MediaReader, *, size: int, known: NDArray[np.uint64]) -> None:
        # Neither threads nor what a GPU's driver holds survives a fork.
        context = multiprocessing.get_context("spawn")
        self._end, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, reader, size, known), name="usl-read", daemon=True
        )
        self._process.start()
        other.close()

    def read(self, locations: Sequence[Location]) -> list[Reading] | None:
        """Read some pictures there and wait for them; for one thread at a time.

        Parameters
        ----------
        locations
            Where they are.

        Returns
        -------
        list of Reading, or None
            In the order of `locations`; None where the process is gone: closed, or killed, for its memory perhaps.
        """
        try:
            self._end.send(list(locations))
            readings: list[Reading] = self._end.recv()
        except (EOFError, OSError):
            return None
        return readings

    def close(self) -> None:
        """End the process; what it still reads is not waited for."""
        self._process.terminate()
        self._process.join()


def _serve(end: Connection, reader: MediaReader, size: int, known: NDArray[np.uint64]) -> None:
    """Life of a reading process."""
    # Whoever presses Ctrl-C means the process that started this one, which ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def wanted(content_hash: str) -> bool:
        return not is_known(content_hash, known)

    while True:
        try:
            locations: list[Location] = end.recv()
            end.send([read_picture(reader, location, size=size, wanted=wanted) for location in locations])
        except (EOFError, OSError):
            return


def _end_with_parent() -> None:
    """Leave at once when the parent is gone, also in the middle of a slow fetch: the run's lock is inherited."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def is_known(content_hash: str, prefixes: NDArray[np.uint64]) -> bool:
    """Whether a content hash begins with one of some prefixes.

    Parameters
    ----------
    content_hash
        SHA-256, hexadecimal.
    prefixes : (k,) uint64
        First 8 bytes of hashes, as ascending numbers.
    """
    prefix = np.uint64(int(content_hash[: 2 * PREFIX_BYTES], 16))
    at = int(np.searchsorted(prefixes, prefix))
    return at < len(prefixes) and bool(prefixes[at] == prefix)

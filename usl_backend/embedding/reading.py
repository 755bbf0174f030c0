"""Read a located picture and decode it, in this process or in processes that only read.

Threads of one Python process decode no more than two or three cores' worth of pictures, because they take turns at
everything that is not in C. That is plenty beside an encoder on a CPU. A GPU waits for it, so there processes read.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from usl_backend.errors import MediaError
from usl_backend.media import (
    Location,
    MediaLimits,
    MediaReader,
    UnauthorizedError,
    UnavailableError,
    decode_measured,
    host_of,
    open_several,
    squared,
)
from usl_backend.outliers import UNMEASURED, Traits, traits_of_picture, traits_of_text

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

    from usl_backend.media.several import Pictures

logger = logging.getLogger(__name__)

_SEVERAL: Final = "several-1"
"""Part of the hash of each picture of a video or PDF; change it when the pictures change."""
PREFIX_BYTES: Final = 8
"""Leading bytes of a content hash that, nearly always, tell it from all others."""


@dataclass(frozen=True, slots=True)
class Content:
    """A picture or text that gets a row in the cache.

    Attributes
    ----------
    hash
        Names it in the cache, 64 hexadecimal digits: SHA-256 of the bytes, or where one file holds several pictures
        SHA-256 of the file's hash and the picture's place in it.
    value : (size, size, 3) uint8, str or None
        To be encoded; None where it cannot be decoded or is not wanted.
    reason
        Why it cannot be decoded though it was wanted; "" where nothing went wrong.
    traits
        What was measured on the value; all NaN without one.
    """

    hash: str
    value: NDArray[np.uint8] | str | None = None
    reason: str = ""
    traits: Traits = field(default=UNMEASURED, compare=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of reading one location.

    Attributes
    ----------
    contents
        What its bytes hold, usually one picture; empty where there are no bytes.
    reason
        Why there are no bytes; "" where there are.
    unavailable
        The source did not answer, for a reason that may pass.
    unauthorized
        The source answered 401.
    host
        The one that did not answer, or else the one of the location; "" for a file.
    """

    contents: tuple[Content, ...] = ()
    reason: str = ""
    unavailable: bool = False
    unauthorized: bool = False
    host: str = ""


def read_pictures(
    reader: MediaReader,
    location: Location,
    *,
    size: int,
    wanted: Callable[[str], bool],
    once: bool = False,
    quick: bool = False,
) -> Reading:
    """Read and hash what is at a location, and decode to `size` x `size` pixels those contents that are wanted.

    `quick` is as for `decode_image`. With `once` its host is asked at once, whatever is known of it, and not again.
    """

    def held(data: bytes) -> Iterator[Content]:
        return _contents(data, size=size, limits=reader.limits, wanted=wanted, quick=quick)

    return _read(reader, location, held, once=once)


def read_text(
    reader: MediaReader,
    location: Location,
    *,
    text_of: Callable[[bytes], str],
    wanted: Callable[[str], bool],
    once: bool = False,
) -> Reading:
    """Read the file at a location and hash its text, as if the data held it; `text_of` may raise `MediaError`."""

    def held(data: bytes) -> Iterator[Content]:
        yield text_content(text_of(data), wanted=wanted)

    return _read(reader, location, held, once=once)


def text_content(text: str, *, wanted: Callable[[str], bool]) -> Content:
    """Hash a text."""
    content_hash = hashlib.sha256(text.encode()).hexdigest()
    if not wanted(content_hash):
        return Content(content_hash)
    return Content(content_hash, text, traits=traits_of_text(text))


def _read(
    reader: MediaReader, location: Location, held: Callable[[bytes], Iterator[Content]], *, once: bool
) -> Reading:
    """Read a location and what its bytes hold."""
    host = host_of(location)
    try:
        return Reading(tuple(held(reader.read(location, once=once))), host=host)
    except UnavailableError as error:
        return Reading(reason=str(error), unavailable=True, host=error.host or host)
    except MediaError as error:
        return Reading(reason=str(error), unauthorized=isinstance(error, UnauthorizedError), host=host)


def _contents(
    data: bytes, *, size: int, limits: MediaLimits, wanted: Callable[[str], bool], quick: bool
) -> Iterator[Content]:
    """Hash what some bytes hold, and decode what of it is wanted."""
    content_hash = hashlib.sha256(data).hexdigest()
    try:
        several = open_several(data, limits=limits)
        if several is not None:
            yield from _pictures(several, content_hash, size=size, wanted=wanted, quick=quick)
        elif wanted(content_hash):
            pixels, side = decode_measured(data, size=size, limits=limits, quick=quick)
            yield Content(content_hash, pixels, traits=traits_of_picture(pixels, side=side))
        else:
            yield Content(content_hash)
    except MediaError as error:
        yield Content(content_hash, reason=str(error))


def _pictures(
    several: Pictures, content_hash: str, *, size: int, wanted: Callable[[str], bool], quick: bool
) -> Sequence[Content]:
    """Name what a video or PDF holds, and decode what of it is wanted."""
    hashes = [
        hashlib.sha256(f"{_SEVERAL} {content_hash} {place}".encode()).hexdigest()
        for place in range(len(several))
    ]
    places = [place for place, one in enumerate(hashes) if wanted(one)]
    try:
        found = several.pictures(places) if places else {}
    except MediaError as error:  # they are claimed, so each needs the reason
        found = dict.fromkeys(places, error)
    contents = []
    for place, one in enumerate(hashes):
        picture = found.get(place)
        if isinstance(picture, MediaError):
            contents.append(Content(one, reason=str(picture)))
        elif picture is None:
            contents.append(Content(one))
        else:
            side, pixels = min(picture.size), squared(picture, size, quick=quick)
            contents.append(Content(one, pixels, traits=traits_of_picture(pixels, side=side)))
    return contents


class ReadingProcess:
    """A process that reads and decodes pictures. It ends when its parent does, however that one ends.

    Parameters
    ----------
    reader
        Sent to the process.
    size
        Side of the pictures in pixels.
    known : (k,) uint64
        First 8 bytes, as ascending numbers, of the hashes of contents that need not be decoded.
    quick
        As for `decode_image`.
    """

    def __init__(
        self, reader: MediaReader, *, size: int, known: NDArray[np.uint64], quick: bool = False
    ) -> None:
        # Neither threads nor what a GPU's driver holds survives a fork.
        context = multiprocessing.get_context("spawn")
        self._end, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, reader, size, known, quick), name="usl-read", daemon=True
        )
        self._process.start()
        other.close()

    def read(self, locations: Sequence[Location]) -> list[Reading] | None:
        """Read some pictures there, in order; for one thread at a time.

        None where the process is gone: closed, or killed, for its memory perhaps.
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


class ReadingProcesses:
    """A reading process for each thread that asks; a thread whose process is gone reads for itself.

    Parameters
    ----------
    reader, size, known, quick
        As for `ReadingProcess`.
    """

    def __init__(
        self, reader: MediaReader, *, size: int, known: NDArray[np.uint64], quick: bool = False
    ) -> None:
        self._reader, self._size, self._known, self._quick = reader, size, known, quick
        self._mine = threading.local()
        self._started: list[ReadingProcess] = []
        self._keeping = threading.Lock()
        self._closed = False

    def read(self, locations: Sequence[Location]) -> list[Reading] | None:
        """Read some pictures in the calling thread's process, in order; None where that is gone."""
        process = self._process()
        if process is None:
            return None
        readings = process.read(locations)
        if readings is None:
            self._mine.process = None
            if not self._closed:
                logger.warning("a process that reads pictures is gone; its thread reads them now")
        return readings

    def close(self) -> None:
        """End the processes, those too that threads are just starting."""
        with self._keeping:
            self._closed = True
            for process in self._started:
                process.close()

    def _process(self) -> ReadingProcess | None:
        """The process of this thread, started when it is first asked for."""
        if not hasattr(self._mine, "process"):
            self._mine.process = None
            # Not under the lock: several start at once, each for a second or so.
            self._mine.process = self._kept(
                ReadingProcess(self._reader, size=self._size, known=self._known, quick=self._quick)
            )
        process: ReadingProcess | None = self._mine.process
        return process

    def _kept(self, process: ReadingProcess) -> ReadingProcess:
        """Remember a process for `close`, or end it where that has been called."""
        with self._keeping:
            if self._closed:
                process.close()
            else:
                self._started.append(process)
        return process


def _serve(end: Connection, reader: MediaReader, size: int, known: NDArray[np.uint64], quick: bool) -> None:
    """Read what the parent sends, until it is gone."""
    # Whoever presses Ctrl-C means the process that started this one, which ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def wanted(content_hash: str) -> bool:
        return not is_known(content_hash, known)

    while True:
        try:
            locations: list[Location] = end.recv()
            end.send(
                [
                    read_pictures(reader, location, size=size, wanted=wanted, quick=quick)
                    for location in locations
                ]
            )
        except (EOFError, OSError):
            return


def _end_with_parent() -> None:
    """Exit as soon as the parent is gone, even during a slow fetch: this process holds the run's lock too."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def is_known(content_hash: str, prefixes: NDArray[np.uint64]) -> bool:
    """Tell whether a content hash, hexadecimal, begins with one of some ascending 8-byte prefixes."""
    prefix = np.uint64(int(content_hash[: 2 * PREFIX_BYTES], 16))
    at = int(np.searchsorted(prefixes, prefix))
    return at < len(prefixes) and bool(prefixes[at] == prefix)

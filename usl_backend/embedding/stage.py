"""Second stage: instances to a pool of unit-length rows; fetching, decoding and encoding are elsewhere."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from usl_backend.embedding.reading import Reading, ReadingProcess, read_picture
from usl_backend.errors import (
    EncoderError,
    MediaError,
    StudioAuthError,
    StudioNotFoundError,
    StudioUnreachableError,
)
from usl_backend.instances import Instance, Pool
from usl_backend.media import Location, MediaReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.embedding.cache import EmbeddingCache
    from usl_backend.encoders import Encoder

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called as `progress("embed", done, total)`; may raise `CancelledError` to stop."""

EMBEDDINGS: Final = "embeddings.npy"
FLUSH_ROWS: Final = 1_024
"""Rows after which the cache is written: what a crash can cost, plus one batch."""

_PER_CORE: Final = 16
_PER_MESSAGE: Final = 16
"""Instances that a reading process is sent at a time."""
_OUTAGE: Final = 12
"""Failures in a row after which the origin is taken for down."""
_PROBES: Final = 7
"""Times that an origin which is down is asked whether it is back: about a minute."""
_PROBE_SECONDS: Final = 1.0
_LONGEST_PROBE_SECONDS: Final = 20.0
_PATIENCE_SECONDS: Final = 0.5


def _down(reason: str) -> StudioUnreachableError:
    """A trusted origin does not deliver any more."""
    return StudioUnreachableError(
        f"files cannot be fetched any more, the last because {reason}; resume the run when the server answers again"
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a reading thread found out about one instance.

    `outage` is the instance itself where a trusted origin failed to deliver it.
    """

    id: int
    content_hash: str = ""
    content: NDArray[np.uint8] | str | None = None
    skipped: str = ""
    outage: Instance | None = None
    error: BaseException | None = None


def embed(
    instances: Sequence[Instance],
    *,
    locate: Callable[[Instance], Location],
    reader: MediaReader,
    encoder: Encoder,
    cache: EmbeddingCache,
    directory: Path,
    progress: Progress,
    workers: int,
    processes: bool = False,
    kept: Callable[[], None] = lambda: None,
) -> tuple[Pool, list[str]]:
    """Read every instance, encode what the cache lacks, and lay the rows out by id.

    Threads read, hash and decode ahead of the encoder by a bounded number of instances, so memory does not
    grow with the pool; a text is its own content and needs no reading. Equal contents are encoded once. One
    unreadable instance never fails the run. What a trusted origin fails to deliver is asked for once more at the end,
    so that a short outage costs no instance; after a longer one, or when the token is not accepted any more, the run
    stops, and what was encoded until then is kept.

    Parameters
    ----------
    instances
        All of the encoder's modality, with distinct ids, in any order.
    locate
        Where an instance's bytes are; called from the reading threads, and once more after a 401.
    reader
        Reads them under its limits.
    encoder
        Its `key` must be the cache's.
    cache
        Has the rows of earlier runs; gets the new ones at least every 1,024 rows.
    directory
        The run's folder; gets `embeddings.npy`.
    progress
        Called at least about every second while instances go through.
    workers
        Reading threads.
    processes
        Whether each of the threads has pictures read and decoded by a process of its own, and only waits for them:
        for an encoder that is faster than threads can decode. `reader` is sent there.
    kept
        Called when new rows are on the disk.

    Returns
    -------
    pool : Pool
        Rows by ascending id, memory-mapped; unreadable instances in `skipped`.
    hashes : list of str
        SHA-256 of each row's content, hexadecimal, in row order.

    Raises
    ------
    EncoderError
        An instance is not of the encoder's modality.
    StudioUnreachableError
        A trusted origin stopped delivering and did not come back for a minute; the run can be resumed.
    StudioAuthError
        A trusted origin answers 401 even to fresh credentials.
    RunError
        The disk refuses.
    CancelledError
        From `progress`; finished rows are in the cache.
    """
    _check_modality(instances, encoder)
    known = cache.prefixes() if processes else None
    stage = _Stage(instances, locate, reader, encoder, cache, progress, kept, known)
    try:
        stage.run(instances, workers)
    finally:
        stage.close()
        cache.flush()
    pool, ordered = lay_out(*stage.readable(), cache, directory)
    progress("embed", len(instances), len(instances))
    return pool, ordered


def lay_out(
    hashes: Mapping[int, str], skipped: Mapping[int, str], cache: EmbeddingCache, directory: Path
) -> tuple[Pool, list[str]]:
    """Pool of the instances that were read, and the content hash of each of its rows."""
    ids = sorted(hashes)
    ordered = [hashes[instance_id] for instance_id in ids]
    rows = cache.gather(ordered, directory / EMBEDDINGS)
    return Pool(np.array(ids, dtype=np.int64), rows, skipped), ordered


@dataclass
class Part:
    """Some instances embedded for somebody else's cache; a cache of its own while that happens.

    Attributes
    ----------
    hashes
        Instance id -> content hash.
    skipped
        Instance id -> why it cannot be read; disjoint from `hashes`.
    rows
        Content hash -> (dim,) float32, for contents that were not known.
    """

    is_known: Callable[[str], bool]
    hashes: dict[int, str] = field(default_factory=dict)
    skipped: dict[int, str] = field(default_factory=dict)
    rows: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    pending: int = 0

    def known(self, hashes: Sequence[str]) -> list[bool]:
        """Which contents have a row, here or in the cache that this is for."""
        return [content_hash in self.rows or self.is_known(content_hash) for content_hash in hashes]

    def append(self, hashes: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Take in rows."""
        self.rows.update(zip(hashes, vectors, strict=True))

    def flush(self) -> None:
        """Nothing is written anywhere."""


def embed_part(
    instances: Sequence[Instance],
    *,
    locate: Callable[[Instance], Location],
    reader: MediaReader,
    encoder: Encoder,
    known: Callable[[str], bool],
    workers: int,
) -> Part:
    """Read some instances and encode what is not known, just as `embed` does, for a cache that is elsewhere.

    Parameters
    ----------
    instances, locate, reader, encoder, workers
        As for `embed`.
    known
        Whether a content hash has a row already.

    Returns
    -------
    Part

    Raises
    ------
    EncoderError, StudioUnreachableError, StudioAuthError
        As `embed`.
    """
    _check_modality(instances, encoder)
    part = Part(known)
    stage = _Stage(instances, locate, reader, encoder, part, lambda *_: None, lambda: None)
    stage.run(instances, workers)
    part.hashes, part.skipped = stage.readable()
    return part


def _check_modality(instances: Sequence[Instance], encoder: Encoder) -> None:
    for instance in instances:
        if instance.modality != encoder.modality:
            raise EncoderError(
                f"encoder {encoder.key} takes {encoder.modality}s, but {instance.id} is a {instance.modality}; "
                "choose another encoder"
            )


class _Rows(Protocol):
    """Where a stage puts what it encodes: `EmbeddingCache` or `Part`."""

    @property
    def pending(self) -> int: ...

    def known(self, hashes: Sequence[str]) -> Sequence[bool] | NDArray[np.bool_]: ...

    def append(self, hashes: Sequence[str], vectors: NDArray[np.float32]) -> None: ...

    def flush(self) -> None: ...


class _Stage:
    """State of one pass over the instances; everything but `_read` runs in the calling thread."""

    def __init__(
        self,
        instances: Sequence[Instance],
        locate: Callable[[Instance], Location],
        reader: MediaReader,
        encoder: Encoder,
        cache: _Rows,
        progress: Progress,
        kept: Callable[[], None],
        known: NDArray[np.uint64] | None = None,
    ) -> None:
        self.total, self.locate, self.reader = len(instances), locate, reader
        self.encoder, self.cache, self.progress, self.kept = encoder, cache, progress, kept
        self.batch = max(encoder.batch, _PER_CORE * len(os.sched_getaffinity(0)))
        self.outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self.known = known
        """Where processes read: first bytes of the hashes of contents that have a row."""
        self.processes: list[ReadingProcess] = []
        self.mine = threading.local()
        self.claimed: set[str] = set()
        self.claiming = threading.Lock()
        self.hashes: dict[int, str] = {}
        self.skipped: dict[int, str] = {}
        self.broken: dict[str, str] = {}
        self.waiting: list[tuple[str, NDArray[np.uint8] | str]] = []
        self.outages = 0
        self.missed: list[Instance] = []
        self.asked_again = False
        self.reason = ""
        self.witness: Instance | None = None
        """The latest instance that a trusted origin delivered: while it can be had, failures are not outages."""
        self.done = 0

    def run(self, instances: Sequence[Instance], workers: int) -> None:
        """Settle every instance; what a trusted origin did not deliver is asked for once more at the end."""
        self._pass(instances, workers)
        if self.missed:
            logger.info("%d files that could not be fetched are asked for again", len(self.missed))
            self._await_origin(self.witness or self.missed[0], self.reason)
            self.asked_again = True
            self.known = None  # too few for processes
            self._pass(self.missed, workers)

    def _pass(self, instances: Sequence[Instance], workers: int) -> None:
        """Keep the threads busy and the encoder fed until every instance is settled or missed."""
        self.stopping.clear()
        pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="read")
        remaining = iter(instances)
        several = 1 if self.known is None else _PER_MESSAGE
        try:
            in_flight = self._submit(pool, remaining, 3 * self.batch + several * workers, several)
            reported = 0.0
            free = 0
            while in_flight:
                try:
                    outcome = self.outcomes.get(timeout=_PATIENCE_SECONDS)
                except queue.Empty:
                    outcome = None
                if outcome is not None:
                    free += 1
                    in_flight -= 1
                    if free >= several:
                        in_flight += self._submit(pool, remaining, several, several)
                        free = 0
                    self._settle(outcome)
                if len(self.waiting) >= self.batch or (self.waiting and not in_flight):
                    self._encode()
                if time.monotonic() >= reported + _PATIENCE_SECONDS:
                    reported = time.monotonic()
                    self.progress("embed", self.done, self.total)
        finally:
            # A thread may sit in a slow fetch: whoever cancels does not wait for it.
            self.stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the reading processes."""
        for process in self.processes:
            process.close()

    def readable(self) -> tuple[dict[int, str], dict[int, str]]:
        """Content hash, or reason to skip, of every instance."""
        skipped = dict(self.skipped)
        hashes: dict[int, str] = {}
        for instance_id, content_hash in self.hashes.items():
            if content_hash in self.broken:
                skipped[instance_id] = self.broken[content_hash]
            else:
                hashes[instance_id] = content_hash
        return hashes, skipped

    def _submit(
        self, pool: ThreadPoolExecutor, remaining: Iterator[Instance], count: int, several: int
    ) -> int:
        """Have up to `count` more instances read, `several` by one task of a thread; how many there were."""
        submitted = 0
        while submitted < count and (some := list(islice(remaining, several))):
            pool.submit(self._read, some)
            submitted += len(some)
        return submitted

    def _settle(self, outcome: _Outcome) -> None:
        """Take in what a thread found."""
        if outcome.error is not None:
            raise outcome.error
        if outcome.outage is not None:
            self._miss(outcome.outage, outcome.skipped)
            return
        self.outages = 0
        if outcome.content_hash:
            self.hashes[outcome.id] = outcome.content_hash
        if outcome.skipped and outcome.content_hash:
            self.broken[outcome.content_hash] = outcome.skipped
        elif outcome.skipped:
            self.skipped[outcome.id] = outcome.skipped
        if outcome.content is None:
            self.done += 1
        else:
            self.waiting.append((outcome.content_hash, outcome.content))

    def _miss(self, instance: Instance, reason: str) -> None:
        """Put aside what a trusted origin did not deliver; when asked again, skip it unless the origin is down."""
        if self.asked_again:
            if self.witness is None or not self._delivers(self.witness):
                raise _down(reason)
            self.skipped[instance.id] = reason
            self.done += 1
            return
        self.missed.append(instance)
        self.reason = reason
        self.outages += 1
        if self.outages >= _OUTAGE:
            logger.warning("%d files in a row could not be fetched, the last because %s", _OUTAGE, reason)
            self._await_origin(instance, reason)
            self.outages = 0

    def _await_origin(self, instance: Instance, reason: str) -> None:
        """Come back as soon as the origin delivers an instance."""
        for attempt in range(_PROBES):
            if self._delivers(instance):
                return
            pause = min(_LONGEST_PROBE_SECONDS, _PROBE_SECONDS * 2**attempt)
            until = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
            while (left := until - time.monotonic()) > 0:
                self.progress("embed", self.done, self.total)  # raises when the run has to stop
                time.sleep(min(left, _PATIENCE_SECONDS))
        raise _down(reason)

    def _delivers(self, instance: Instance) -> bool:
        """Whether the origin answers for an instance, if only to say that it is gone or no picture."""
        try:
            _, reading = self._reading(instance, wanted=lambda _: False)
        except (MediaError, StudioNotFoundError):
            return True
        return not reading.unavailable

    def _encode(self) -> None:
        """Encode what waits, and write the cache from time to time."""
        hashes = [content_hash for content_hash, _ in self.waiting]
        rows = self.encoder.encode([content for _, content in self.waiting])
        self.waiting.clear()
        self.cache.append(hashes, rows)
        self.done += len(hashes)
        if self.cache.pending >= FLUSH_ROWS:
            self.cache.flush()
            self.kept()

    # -- in the reading threads ----------------------------------------------------------------------------

    def _read(self, some: Sequence[Instance]) -> None:
        """Read some instances and tell the outcomes, whatever happens."""
        if self.stopping.is_set():
            return
        try:
            process = self._process()
        except BaseException as error:  # noqa: BLE001 - raised again by the calling thread
            self.outcomes.put(_Outcome(some[0].id, error=error))
            return
        if process is None:
            for instance in some:
                self.outcomes.put(self._examined(instance))
            return
        located = [self._located(instance) for instance in some]
        readings = process.read([location for location in located if location is not None])
        if self.stopping.is_set():
            return
        if readings is None:
            logger.warning("a process that reads pictures is gone; its thread reads them now")
            self.mine.process = None
        found = iter(readings or ())
        for instance, location in zip(some, located, strict=True):
            # What went wrong on the way is found out again, by the words that threads have for it.
            reading = next(found, None) if location is not None else None
            self.outcomes.put(self._examined(instance, location, reading))

    def _process(self) -> ReadingProcess | None:
        """The process of this thread, started when it is first asked for."""
        if not hasattr(self.mine, "process"):
            self.mine.process = None
            if self.known is not None:
                self.mine.process = ReadingProcess(self.reader, size=self.encoder.size, known=self.known)
                self.processes.append(self.mine.process)
        process: ReadingProcess | None = self.mine.process
        return process

    def _located(self, instance: Instance) -> Location | None:
        """Where an instance is; None where that is no picture or cannot be said."""
        if instance.modality != "image":
            return None
        try:
            return self.locate(instance)
        except Exception:  # noqa: BLE001 - asked again, by whom the error concerns
            return None

    def _examined(
        self, instance: Instance, location: Location | None = None, reading: Reading | None = None
    ) -> _Outcome:
        """The outcome for one instance, whatever happens."""
        try:
            return self._outcome(instance, location, reading)
        except BaseException as error:  # noqa: BLE001 - raised again by the calling thread
            return _Outcome(instance.id, error=error)

    def _outcome(
        self, instance: Instance, location: Location | None = None, reading: Reading | None = None
    ) -> _Outcome:
        """What is to be told of an instance; `reading` is what a process found at `location`."""
        if instance.modality == "text":
            content_hash = hashlib.sha256(instance.source.encode()).hexdigest()
            return _Outcome(instance.id, content_hash, instance.source if self._claim(content_hash) else None)
        given = reading
        try:
            location, reading = self._reading(instance, location, given, wanted=self._claim)
        except StudioNotFoundError as error:
            return _Outcome(instance.id, skipped=f"it is gone from Label Studio: {error}")
        except MediaError as error:
            return _Outcome(instance.id, skipped=str(error))
        if not reading.content_hash:
            outage = reading.unavailable and location.trusted
            return _Outcome(instance.id, skipped=reading.reason, outage=instance if outage else None)
        if location.trusted:
            self.witness = instance
        content = reading.content
        if reading is given and not reading.reason:
            # A process cannot claim.
            if content is None and not self.cache.known([reading.content_hash])[0]:
                # Another content has a hash that begins with the same bytes.
                return self._outcome(instance)
            if not self._claim(reading.content_hash):
                content = None
        return _Outcome(instance.id, reading.content_hash, content, skipped=reading.reason)

    def _claim(self, content_hash: str) -> bool:
        """Whether this content is to be encoded: it is new, and no other instance of this pass has shown it."""
        with self.claiming:
            # Of equal contents the first is encoded; the others only wait for its row.
            if content_hash in self.claimed:
                return False
            self.claimed.add(content_hash)
        return not self.cache.known([content_hash])[0]

    def _reading(
        self,
        instance: Instance,
        location: Location | None = None,
        reading: Reading | None = None,
        *,
        wanted: Callable[[str], bool],
    ) -> tuple[Location, Reading]:
        """Read a picture, where that is not done; a trusted origin's 401 gets one more try with fresh credentials."""
        if location is None or reading is None:
            location = self.locate(instance)
            reading = read_picture(self.reader, location, size=self.encoder.size, wanted=wanted)
        if reading.unauthorized and location.trusted:
            location = self.locate(instance)
            reading = read_picture(self.reader, location, size=self.encoder.size, wanted=wanted)
            if reading.unauthorized:
                raise StudioAuthError(
                    f"Label Studio does not accept the token for media any more ({reading.reason}); renew "
                    "LABEL_STUDIO_API_KEY and resume the run"
                )
        return location, reading

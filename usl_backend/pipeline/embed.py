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

from usl_backend.errors import (
    EncoderError,
    MediaError,
    StudioAuthError,
    StudioNotFoundError,
    StudioUnreachableError,
)
from usl_backend.instances import Instance, Pool
from usl_backend.media import (
    Location,
    MediaReader,
    UnauthorizedError,
    UnavailableError,
    decode_image,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.encoders import Encoder
    from usl_backend.runs.shards import EmbeddingCache

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called as `progress("embed", done, total)`; may raise `CancelledError` to stop."""

EMBEDDINGS: Final = "embeddings.npy"
FLUSH_ROWS: Final = 1_024
"""Rows after which the cache is written: what a crash can cost, plus one batch."""

_PER_CORE: Final = 16
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
    stage = _Stage(instances, locate, reader, encoder, cache, progress, kept)
    try:
        stage.run(instances, workers)
    finally:
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
    ) -> None:
        self.total, self.locate, self.reader = len(instances), locate, reader
        self.encoder, self.cache, self.progress, self.kept = encoder, cache, progress, kept
        self.batch = max(encoder.batch, _PER_CORE * len(os.sched_getaffinity(0)))
        self.outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self.stopping = threading.Event()
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
            self._pass(self.missed, workers)

    def _pass(self, instances: Sequence[Instance], workers: int) -> None:
        """Keep the threads busy and the encoder fed until every instance is settled or missed."""
        self.stopping.clear()
        pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="read")
        remaining = iter(instances)
        try:
            in_flight = self._submit(pool, remaining, 3 * self.batch + workers)
            reported = 0.0
            while in_flight:
                try:
                    outcome = self.outcomes.get(timeout=_PATIENCE_SECONDS)
                except queue.Empty:
                    outcome = None
                if outcome is not None:
                    in_flight += self._submit(pool, remaining, 1) - 1
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

    def _submit(self, pool: ThreadPoolExecutor, remaining: Iterator[Instance], count: int) -> int:
        submitted = 0
        for instance in islice(remaining, count):
            pool.submit(self._read, instance)
            submitted += 1
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
            self._bytes(instance, self.locate(instance))
        except UnavailableError:
            return False
        except (MediaError, StudioNotFoundError):
            return True
        return True

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

    def _read(self, instance: Instance) -> None:
        """Read one instance and tell the outcome, whatever happens."""
        if self.stopping.is_set():
            return
        self.outcomes.put(self._examined(instance))

    def _examined(self, instance: Instance) -> _Outcome:
        """The outcome for one instance, whatever happens."""
        try:
            return self._outcome(instance)
        except BaseException as error:  # noqa: BLE001 - raised again by the calling thread
            return _Outcome(instance.id, error=error)

    def _outcome(self, instance: Instance) -> _Outcome:
        if instance.modality == "text":
            text = instance.source
            return self._claimed(instance, hashlib.sha256(text.encode()).hexdigest(), lambda: text)
        location: Location | None = None
        try:
            location = self.locate(instance)
            data = self._bytes(instance, location)
        except StudioNotFoundError as error:
            return _Outcome(instance.id, skipped=f"it is gone from Label Studio: {error}")
        except MediaError as error:
            outage = isinstance(error, UnavailableError) and location is not None and location.trusted
            return _Outcome(instance.id, skipped=str(error), outage=instance if outage else None)
        if location.trusted:
            self.witness = instance
        return self._claimed(
            instance,
            hashlib.sha256(data).hexdigest(),
            lambda: decode_image(data, size=self.encoder.size, limits=self.reader.limits),
        )

    def _claimed(
        self, instance: Instance, content_hash: str, content: Callable[[], NDArray[np.uint8] | str]
    ) -> _Outcome:
        """The content to encode, unless another instance's is equal or the cache has its row."""
        with self.claiming:
            # Of equal contents the first is encoded; the others only wait for its row.
            if content_hash in self.claimed:
                return _Outcome(instance.id, content_hash)
            self.claimed.add(content_hash)
        if self.cache.known([content_hash])[0]:
            return _Outcome(instance.id, content_hash)
        try:
            return _Outcome(instance.id, content_hash, content())
        except MediaError as error:
            return _Outcome(instance.id, content_hash, skipped=str(error))

    def _bytes(self, instance: Instance, location: Location) -> bytes:
        """Read; a 401 from a trusted origin gets one more try with fresh credentials."""
        try:
            return self.reader.read(location)
        except UnauthorizedError:
            if not location.trusted:
                raise
        try:
            return self.reader.read(self.locate(instance))
        except UnauthorizedError as error:
            raise StudioAuthError(
                f"Label Studio does not accept the token for media any more ({error}); renew "
                "LABEL_STUDIO_API_KEY and resume the run"
            ) from error

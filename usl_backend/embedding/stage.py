"""Embed instances: a pool of unit-length rows, from the cache or from the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from usl_backend.embedding.outage import OutagePolicy, check_missed, tolerated
from usl_backend.embedding.outcome import Access, Examiner, Outcome
from usl_backend.embedding.parts import Assembled, Settled, digest_of, parts_of
from usl_backend.embedding.pump import STEP, Pump
from usl_backend.embedding.reading import ReadingProcesses
from usl_backend.encoders.allocator import return_freed_memory
from usl_backend.errors import EncoderError
from usl_backend.instances import Instance, Pool
from usl_backend.progress import ignore

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.embedding.cache import EmbeddingCache
    from usl_backend.encoders import Encoder
    from usl_backend.outliers import Traits
    from usl_backend.progress import Progress
    from usl_backend.sources.media import Media

EMBEDDINGS: Final = "embeddings.npy"
_PER_MESSAGE: Final = 16
"""Instances that a reading process is sent at a time."""


def embed(
    instances: Sequence[Instance],
    *,
    media: Media,
    encoder: Encoder,
    cache: EmbeddingCache,
    directory: Path,
    progress: Progress,
    workers: int,
    missing: float,
    processes: bool = False,
    kept: Callable[[], None] = lambda: None,
) -> tuple[Pool, list[str]]:
    """Read every instance, encode what the cache lacks, and lay the rows out by id.

    Threads read, hash and decode ahead of the encoder by a bounded number of instances, so memory does not
    grow with the pool; a text is its own content and needs no reading. Equal contents are encoded once. The row of an
    instance that shows several pictures or texts is the mean of their rows, brought to unit length. One unreadable
    instance never fails the run, and one broken picture of several is left out alone. What a host fails to
    deliver for a reason that may pass is asked for again at the end, so that a short outage costs no instance; after a
    longer one, or when the token is not accepted any more, the run stops, and what was encoded until then is kept.

    Parameters
    ----------
    instances
        All of the encoder's modality, with distinct ids, in any order.
    media
        Reads the instances; called from the reading threads.
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
        Have pictures read and decoded by a process per thread, for an encoder that is faster than threads can
        decode. The media's reader is sent there.
    kept
        Called when new rows are on the disk.
    missing
        Share of the files that may be set aside because their hosts are busy or away.

    Returns
    -------
    pool : Pool
        Rows by ascending id, memory-mapped; unreadable instances in `skipped`.
    hashes : list of str
        SHA-256 of each row's content, or of the hashes of its contents, hexadecimal, in row order.

    Raises
    ------
    EncoderError
        An instance is not of the encoder's modality.
    MediaHostError
        Hosts failed to deliver more than that for about a minute; the run can be resumed.
    StudioUnreachableError
        Label Studio stopped delivering and did not come back for a minute; the run can be resumed.
    StudioAuthError
        A trusted origin answers 401 even to fresh credentials.
    RunError
        The disk refuses.
    CancelledError
        From `progress`; finished rows are in the cache.
    """
    _check_modality(instances, encoder)
    access = Access.of(encoder, media)
    parts = parts_of(instances)
    pump = Pump(
        encoder,
        cache,
        total=len(parts),
        progress=progress,
        kept=kept,
        waiting=media.reader.hosts.waiting,
    )
    settled = Settled(instances)
    reading = (
        ReadingProcesses(media.reader, size=access.size, known=cache.prefixes(), quick=access.quick)
        if processes
        else None
    )
    try:
        _settle(
            parts,
            settled,
            access,
            pump,
            known=cache.known,
            workers=workers,
            allowed=tolerated(len(parts), missing),
            processes=reading,
        )
    finally:
        if reading is not None:
            reading.close()
        cache.flush()
    check_missed(settled.missed.values(), total=len(parts), share=missing)
    return_freed_memory(cycles=False)  # of the pictures: the shards are mapped beside the encoder now
    pool, ordered = lay_out(settled.assemble(), cache, directory)
    progress(STEP, len(parts), len(parts))
    return pool, ordered


def lay_out(found: Assembled, cache: EmbeddingCache, directory: Path) -> tuple[Pool, list[str]]:
    """Write the rows of the instances that were read by ascending id; return the pool and each row's hash."""
    ids = sorted(found.contents)
    ordered = [found.contents[instance_id] for instance_id in ids]
    rows = cache.gather(ordered, directory / EMBEDDINGS)
    pool = Pool(np.array(ids, dtype=np.int64), rows, found.skipped, found.incomplete, cache.traits(ordered))
    return pool, [digest_of(contents) for contents in ordered]


@dataclass
class LooseRows:
    """Rows in memory, to be added to a cache on another machine.

    Attributes
    ----------
    is_known
        Tells whether that cache has a content.
    rows
        Content hash -> (dim,) float32, for contents that were not known.
    traits
        Content hash -> what was measured on it, for the same ones.
    """

    is_known: Callable[[str], bool]
    rows: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    traits: dict[str, Traits] = field(default_factory=dict)
    pending: int = 0

    def known(self, hashes: Sequence[str]) -> list[bool]:
        """Tell which contents have a row, here or in the cache that this is for."""
        return [content_hash in self.rows or self.is_known(content_hash) for content_hash in hashes]

    def append(
        self, hashes: Sequence[str], vectors: NDArray[np.float32], traits: Sequence[Traits] = (), /
    ) -> None:
        """Add rows, and what was measured on their contents."""
        self.rows.update(zip(hashes, vectors, strict=True))
        self.traits.update(zip(hashes, traits, strict=bool(traits)))

    def flush(self) -> None:
        """Do nothing: the rows stay in memory."""


def embed_loose(
    parts: Sequence[Instance],
    *,
    media: Media,
    encoder: Encoder,
    known: Callable[[str], bool],
    workers: int,
    missing: float,
) -> tuple[list[Outcome], LooseRows]:
    """Read some parts and encode what is not known, as `embed` does, for a cache on another machine.

    Whether too many were missed is for the caller to say, who knows the other parts.

    Parameters
    ----------
    parts
        Each shows one picture or text; several may have one id.
    media, encoder, workers, missing
        As for `embed`.
    known
        Tells whether a content hash has a row already.

    Returns
    -------
    outcomes
        Of each part, in order, without values.
    rows
        Of the contents that were not known.

    Raises
    ------
    EncoderError, StudioUnreachableError, StudioAuthError
        As `embed`.
    """
    _check_modality(parts, encoder)
    rows = LooseRows(known)
    pump = Pump(encoder, rows, total=len(parts), progress=ignore, kept=lambda: None)
    settled = Settled(())
    access, allowed = Access.of(encoder, media), tolerated(len(parts), missing)
    _settle(parts, settled, access, pump, known=rows.known, workers=workers, allowed=allowed)
    return [settled.outcome(part) for part in parts], rows


def _check_modality(instances: Sequence[Instance], encoder: Encoder) -> None:
    for instance in instances:
        if instance.modality != encoder.modality:
            raise EncoderError(
                f"encoder {encoder.key} takes {encoder.modality}s, but {instance.id} is a {instance.modality}; "
                "choose another encoder"
            )


def _settle(
    parts: Sequence[Instance],
    settled: Settled,
    access: Access,
    pump: Pump,
    *,
    known: Callable[[Sequence[str]], Sequence[bool] | NDArray[np.bool_]],
    workers: int,
    allowed: int,
    processes: ReadingProcesses | None = None,
) -> None:
    """Settle every part; what a host did not deliver for now is asked for again at the end."""
    hosts = access.media.reader.hosts
    outages = OutagePolicy(allowed=allowed, delivers=access.delivers, wait=pump.wait, rest=hosts.rest)
    examiner = Examiner(access, known=known)

    def settle(outcome: Outcome) -> bool:
        accepted = outages.accepts(outcome)
        if accepted:
            settled.add(outcome)
        return accepted

    if processes is None:
        pump.run(parts, examine=examiner.here, settle=settle, workers=workers)
    else:
        in_process = partial(examiner.in_process, processes=processes)
        pump.run(parts, examine=in_process, settle=settle, workers=workers, several=_PER_MESSAGE)
    while missed := outages.ask_again():
        pump.run(missed, examine=examiner.here, settle=settle, workers=workers)  # too few for processes
    for outcome in outages.left_over():
        settled.add(outcome)

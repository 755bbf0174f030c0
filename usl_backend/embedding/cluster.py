"""Embed instances on the workers of a cluster; their rows go to the cache of this machine."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.distributed.tables import map_table
from usl_backend.embedding.cache import FLUSH_ROWS
from usl_backend.embedding.outage import check_missed
from usl_backend.embedding.outcome import Outcome
from usl_backend.embedding.parts import Settled, parts_of
from usl_backend.embedding.pump import STEP
from usl_backend.embedding.reading import Content, is_known
from usl_backend.embedding.stage import embed_loose, lay_out
from usl_backend.encoders.allocator import keep_freed_memory
from usl_backend.errors import EncoderError, RunError, StudioAuthError, StudioUnreachableError, USLError
from usl_backend.instances import Instance, Pool, TextFile
from usl_backend.outliers import Traits

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from usl_backend.distributed import Cluster
    from usl_backend.distributed.tables import Columns
    from usl_backend.embedding.cache import EmbeddingCache
    from usl_backend.encoders import Encoder
    from usl_backend.progress import Progress
    from usl_backend.sources.media import Media, MediaAccess

BLOCK_ROWS: Final = 256
"""Parts of instances per block: what the death of a worker costs, a second or two."""

_FAILURES: Final[Mapping[str, type[USLError]]] = {
    kind.__name__: kind for kind in (EncoderError, StudioAuthError, StudioUnreachableError)
}
"""Errors that are raised here with the type that they had in the worker."""


@dataclass(frozen=True)
class Elsewhere:
    """A cluster, and how its workers read instances.

    Attributes
    ----------
    address
        As for `distributed.connect`.
    media
        What its workers may read.
    """

    address: str
    media: MediaAccess


@dataclass(frozen=True)
class WorkerPlan:
    """Everything a worker needs besides instances. Ray's tools show it, so it may hold no secrets.

    Attributes
    ----------
    encoder
        Loads the encoder.
    encoder_key
        The key that it must have.
    elsewhere
        How workers read instances.
    workers
        Reading threads of each.
    missing
        Share of the parts that may be left out, see `outage.tolerated`.
    """

    encoder: Callable[[], Encoder]
    encoder_key: str
    elsewhere: Elsewhere
    workers: int
    missing: float


def embed_on_cluster(
    instances: Sequence[Instance],
    *,
    plan: WorkerPlan,
    cluster: Cluster,
    cache: EmbeddingCache,
    directory: Path,
    progress: Progress,
    kept: Callable[[], None] = lambda: None,
) -> tuple[Pool, list[str]]:
    """Embed on the workers of a cluster, with the same rows and reasons as `stage.embed`.

    Workers read, decode and encode; rows come back here and are written as shards, so that the cache serves later
    runs with or without a cluster, and an interrupted run encodes only what was not yet written.

    Parameters
    ----------
    instances, cache, directory, progress, kept
        As for `stage.embed`; progress is reported after each block.
    plan
        What each worker loads.
    cluster
        The cluster, connected.

    Returns
    -------
    pool, hashes
        As from `stage.embed`.

    Raises
    ------
    USLError
        As `stage.embed`, from any worker; or `RunError` where the cluster fails.

    Notes
    -----
    Equal contents are encoded once per block, not once per pool: a call must not depend on others, because it is
    repeated when its worker dies. Workers know the first 8 bytes of the hashes in the cache; should a new
    content share them, its parts go out again. So do, once, those that their hosts did not deliver to a worker.
    """
    parts = parts_of(instances)
    settled = Settled(instances)
    waiting: Sequence[int] = range(len(parts))
    missed: set[int] = set()
    asked_again = False
    prefixes = cache.prefixes()
    while waiting:
        blocks = [waiting[start : start + BLOCK_ROWS] for start in range(0, len(waiting), BLOCK_ROWS)]
        done = len(parts) - len(waiting)
        hashes: dict[int, list[str]] = {}
        results = map_table(cluster, [_columns(parts, block) for block in blocks], _Worker, plan, prefixes)
        try:
            with contextlib.closing(results):
                for result in results:
                    _raise_failure(result)
                    for place, outcome in _outcomes(result, parts, cache):
                        settled.add(outcome)
                        (missed.add if outcome.missed else missed.discard)(place)
                        hashes[place] = [one.hash for one in outcome.contents if not one.reason]
                    if all(result["missed"]):
                        # Before every other block waits for the same host.
                        check_missed(settled.missed.values(), total=len(parts), share=plan.missing)
                    if cache.pending >= FLUSH_ROWS:
                        cache.flush()
                        kept()
                    done += len(result["place"])
                    progress(STEP, done, len(parts))
        finally:
            cache.flush()
        waiting = [place for place in waiting if not cache.known(hashes[place]).all()]
        if not waiting and not asked_again:
            asked_again, waiting = True, sorted(missed)
        prefixes = prefixes[:0]
    check_missed(settled.missed.values(), total=len(parts), share=plan.missing)
    return lay_out(settled.assemble(), cache, directory)


class _Worker:
    """Embed parts in a process of the cluster."""

    def __init__(self, plan: WorkerPlan, prefixes: NDArray[np.uint64]) -> None:
        keep_freed_memory()  # before anything imports torch
        self._plan, self._prefixes = plan, prefixes

    def __call__(self, block: Columns) -> Columns:
        """Embed one block, or return the failure that ends the run: for an exception the cluster would try again."""
        parts = [
            Instance(int(number), modality, source, files=(TextFile(*json.loads(file)),) if file else ())
            for number, modality, source, file in zip(
                *(block[name] for name in ("id", "modality", "source", "file")), strict=True
            )
        ]
        try:
            return {"place": block["place"], **self._embedded(parts)}
        except USLError as error:
            return {
                "place": np.array([-1]),
                "failure": np.array([f"{type(error).__name__}:{error}"], dtype=object),
            }

    def _embedded(self, parts: Sequence[Instance]) -> Columns:
        """Contents, reason and rows of each part."""
        outcomes, rows = embed_loose(
            parts,
            media=self._media,
            encoder=self._encoder,
            known=self._known,
            workers=self._plan.workers,
            missing=self._plan.missing,
        )
        # A row travels with the first part that shows its content.
        vectors = rows.rows
        travels = [
            {one.hash: vectors.pop(one.hash) for one in outcome.contents if one.hash in vectors}
            for outcome in outcomes
        ]
        contents = [json.dumps([(one.hash, one.reason) for one in outcome.contents]) for outcome in outcomes]
        return {
            "contents": np.array(contents, dtype=object),
            "skipped": np.array([outcome.skipped for outcome in outcomes], dtype=object),
            "missed": np.array([outcome.missed for outcome in outcomes], dtype=bool),
            "host": np.array([outcome.host for outcome in outcomes], dtype=object),
            "new": np.array([" ".join(some) for some in travels], dtype=object),
            "rows": np.array(
                [b"".join(row.tobytes() for row in some.values()) for some in travels], dtype=object
            ),
            "traits": np.array(
                [json.dumps([rows.traits.get(one, ()) for one in some]) for some in travels], dtype=object
            ),
        }

    def _known(self, content_hash: str) -> bool:
        return is_known(content_hash, self._prefixes)

    @cached_property
    def _media(self) -> Media:
        return self._plan.elsewhere.media.open()

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = self._plan.encoder()
        if encoder.key != self._plan.encoder_key:
            raise EncoderError(
                f"Ray node {os.uname().nodename} has encoder {encoder.key}, this run wants {self._plan.encoder_key}; "
                "install the same packages and weights on every node"
            )
        return encoder


def _columns(parts: Sequence[Instance], block: Sequence[int]) -> Mapping[str, Sequence[Any]]:
    """Turn the parts at some places into a table."""
    some = [parts[place] for place in block]
    return {
        "place": list(block),
        "id": [part.id for part in some],
        "modality": [part.modality for part in some],
        "source": [part.source for part in some],
        "file": ["" if part.file is None else json.dumps(part.file) for part in some],
    }


def _raise_failure(result: Columns) -> None:
    """Raise the error that stopped a worker."""
    if "failure" in result:
        kind, _, message = str(result["failure"][0]).partition(":")
        raise _FAILURES.get(kind, RunError)(message)


def _outcomes(
    result: Columns, parts: Sequence[Instance], cache: EmbeddingCache
) -> Iterator[tuple[int, Outcome]]:
    """Add a worker's rows to the cache; yield the place and the outcome of each of its parts."""
    names = ("place", "contents", "skipped", "missed", "host", "new", "rows", "traits")
    columns = (result[name] for name in names)
    for place, contents, reason, missed, host, new, rows, traits in zip(*columns, strict=True):
        found = tuple(Content(one, reason=why) for one, why in json.loads(contents))
        yield int(place), Outcome(parts[int(place)], found, str(reason), bool(missed), str(host))
        if new:
            vectors = np.frombuffer(rows, dtype=np.float32).reshape(-1, cache.dim)
            cache.append(new.split(), vectors, [Traits(*one) for one in json.loads(traits)])

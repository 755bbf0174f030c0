"""Embed instances on the workers of a cluster; their rows go to the cache of this machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.distributed.tables import map_table
from usl_backend.embedding.cache import FLUSH_ROWS
from usl_backend.embedding.pump import STEP
from usl_backend.embedding.reading import is_known
from usl_backend.embedding.stage import embed_part, lay_out
from usl_backend.encoders.allocator import keep_freed_memory
from usl_backend.errors import EncoderError, RunError, StudioAuthError, StudioUnreachableError, USLError
from usl_backend.instances import Instance, Pool

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from usl_backend.distributed import Cluster
    from usl_backend.distributed.tables import Columns
    from usl_backend.embedding.cache import EmbeddingCache
    from usl_backend.encoders import Encoder
    from usl_backend.progress import Progress
    from usl_backend.sources.media import Media, MediaAccess

PART_ROWS: Final = 256
"""Instances per part: what the death of a worker costs, a second or two."""

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
    """

    encoder: Callable[[], Encoder]
    encoder_key: str
    elsewhere: Elsewhere
    workers: int


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
        As for `stage.embed`; progress is reported after each part.
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
    Equal contents are encoded once per part, not once per pool: a call must not depend on others, because it is
    repeated when its worker dies. Workers know the first 8 bytes of the hashes in the cache; should a new
    content share them, its instances go out again.
    """
    hashes: dict[int, str] = {}
    skipped: dict[int, str] = {}
    waiting: Sequence[Instance] = instances
    prefixes = cache.prefixes()
    while waiting:
        parts = [waiting[start : start + PART_ROWS] for start in range(0, len(waiting), PART_ROWS)]
        done = len(instances) - len(waiting)
        results = map_table(cluster, [_columns(part) for part in parts], _Worker, plan, prefixes)
        try:
            with contextlib.closing(results):
                for result in results:
                    _raise_failure(result)
                    _take_in(result, cache, hashes, skipped)
                    if cache.pending >= FLUSH_ROWS:
                        cache.flush()
                        kept()
                    done += len(result["id"])
                    progress(STEP, done, len(instances))
        finally:
            cache.flush()
        settled = dict(zip(hashes, cache.known(list(hashes.values())), strict=True))
        waiting = [one for one in waiting if one.id not in skipped and not settled[one.id]]
        prefixes = prefixes[:0]
    return lay_out(hashes, skipped, cache, directory)


class _Worker:
    """Embed parts in a process of the cluster."""

    def __init__(self, plan: WorkerPlan, prefixes: NDArray[np.uint64]) -> None:
        keep_freed_memory()  # before anything imports torch
        self._plan, self._prefixes = plan, prefixes

    def __call__(self, part: Columns) -> Columns:
        """Embed one part, or return the failure that ends the run: for an exception the cluster would try again."""
        instances = [
            Instance(int(number), modality, source)
            for number, modality, source in zip(part["id"], part["modality"], part["source"], strict=True)
        ]
        try:
            return self._embedded(instances)
        except USLError as error:
            return {
                "id": np.array([-1]),
                "failure": np.array([f"{type(error).__name__}:{error}"], dtype=object),
            }

    def _embedded(self, instances: Sequence[Instance]) -> Columns:
        """Hash, reason and row of each instance."""
        found = embed_part(
            instances,
            media=self._media,
            encoder=self._encoder,
            known=self._known,
            workers=self._plan.workers,
        )
        # A row travels with the first instance that shows its content.
        first = {content_hash: number for number, content_hash in reversed(found.hashes.items())}
        ids = [instance.id for instance in instances]
        hashes = [found.hashes.get(number, "") for number in ids]
        rows = [
            found.rows[content_hash].tobytes()
            if content_hash in found.rows and first[content_hash] == number
            else b""
            for number, content_hash in zip(ids, hashes, strict=True)
        ]
        return {
            "id": np.array(ids, dtype=np.int64),
            "content_hash": np.array(hashes, dtype=object),
            "skipped": np.array([found.skipped.get(number, "") for number in ids], dtype=object),
            "row": np.array(rows, dtype=object),
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


def _columns(part: Sequence[Instance]) -> Mapping[str, Sequence[Any]]:
    """Turn a part into a table."""
    return {
        "id": [instance.id for instance in part],
        "modality": [instance.modality for instance in part],
        "source": [instance.source for instance in part],
    }


def _raise_failure(result: Columns) -> None:
    """Raise the error that stopped a worker."""
    if "failure" in result:
        kind, _, message = str(result["failure"][0]).partition(":")
        raise _FAILURES.get(kind, RunError)(message)


def _take_in(result: Columns, cache: EmbeddingCache, hashes: dict[int, str], skipped: dict[int, str]) -> None:
    """Add the rows to the cache, the hashes and reasons to the run."""
    for number, content_hash, reason, row in _instances(result):
        if reason:
            skipped[number] = reason
        else:
            hashes[number] = content_hash
        if row:
            cache.append([content_hash], np.frombuffer(row, dtype=np.float32)[None])


def _instances(result: Columns) -> Iterator[tuple[int, str, str, bytes]]:
    """Id, content hash, reason and row of each instance of a worker's table."""
    columns = (result[name] for name in ("id", "content_hash", "skipped", "row"))
    for number, content_hash, reason, row in zip(*columns, strict=True):
        yield int(number), str(content_hash), str(reason), bytes(row)

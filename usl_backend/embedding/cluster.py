"""The second stage on a cluster: its workers embed parts of the instances, the cache here takes in their rows.

What happens to one instance is `stage.py`; how parts reach workers is `distributed`.
"""

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
from usl_backend.embedding.reading import is_known
from usl_backend.embedding.stage import embed_part, lay_out
from usl_backend.encoders.allocator import keep_freed_memory
from usl_backend.errors import EncoderError, RunError, StudioAuthError, StudioUnreachableError, USLError
from usl_backend.instances import Instance, Pool
from usl_backend.media import Location, MediaReader
from usl_backend.settings import HostSettings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from usl_backend.distributed import Cluster
    from usl_backend.distributed.tables import Columns
    from usl_backend.embedding.cache import EmbeddingCache
    from usl_backend.encoders import Encoder
    from usl_backend.progress import Progress

Locator = Callable[[MediaReader], Callable[[Instance], Location]]
"""Made into `locate` by each worker; a function of a module, so that it can travel."""

PART_ROWS: Final = 256
"""Instances per part: what the death of a worker costs, a second or two."""

_FAILURES: Final[Mapping[str, type[USLError]]] = {
    kind.__name__: kind for kind in (EncoderError, StudioAuthError, StudioUnreachableError)
}
"""Errors that come back from a worker as what they were; the record of a run tells them apart."""


@dataclass(frozen=True)
class Elsewhere:
    """A cluster and how its workers reach the instances.

    Attributes
    ----------
    address
        As for `distributed.connect`.
    reader
        Makes the guarded reader.
    locator
        Where instances are.
    """

    address: str
    reader: Callable[[], MediaReader]
    locator: Locator


@dataclass(frozen=True)
class WorkerPlan:
    """What a worker needs besides instances; travels through the cluster and is shown by its tools: no secrets.

    Attributes
    ----------
    encoder
        Loads the encoder.
    encoder_key
        What it must be called.
    elsewhere
        How instances are reached.
    workers
        Reading threads.
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
    """Embed as `stage.embed` does, the same bits and reasons, on the workers of a cluster.

    Workers read, decode and encode; rows come back here and are written as shards, so that the cache serves later
    runs with or without a cluster, and an interrupted run encodes only what was not yet written.

    Parameters
    ----------
    instances
        With distinct ids, in any order.
    plan
        What workers do.
    cluster
        Connected.
    cache
        Has the rows of earlier runs; gets the new ones at least every 1,024 rows.
    directory
        The run's folder; gets `embeddings.npy`.
    progress
        Called after each part.
    kept
        Called whenever rows have been written.

    Returns
    -------
    pool : Pool
        Rows by ascending id, memory-mapped; unreadable instances in `skipped`.
    hashes : list of str
        SHA-256 of each row's content, hexadecimal, in row order.

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
                    progress("embed", done, len(instances))
        finally:
            cache.flush()
        settled = dict(zip(hashes, cache.known(list(hashes.values())), strict=True))
        waiting = [one for one in waiting if one.id not in skipped and not settled[one.id]]
        prefixes = prefixes[:0]
    return lay_out(hashes, skipped, cache, directory)


@dataclass(frozen=True)
class StudioLocator:
    """A `Locator` of media that Label Studio serves.

    The token does not travel: each node of the cluster has `LABEL_STUDIO_API_KEY` in the environment in which
    `ray start` was run.

    Attributes
    ----------
    url
        Address of Label Studio, as the nodes reach it.
    """

    url: str

    def __call__(self, _: MediaReader) -> Callable[[Instance], Location]:
        """Connect from this process."""
        from usl_backend.studio.client import StudioClient

        host = HostSettings.load({"label_studio_url": self.url})
        if not host.api_key:
            raise StudioAuthError(
                f"LABEL_STUDIO_API_KEY is not set on Ray node {os.uname().nodename}; set it in the environment in "
                "which `ray start` is run on every node, because tokens do not travel through Ray"
            )
        client = StudioClient.from_settings(host)
        return lambda instance: client.locate(instance.id, instance.source)


class _Worker:
    """Embeds parts in a process of the cluster."""

    def __init__(self, plan: WorkerPlan, prefixes: NDArray[np.uint64]) -> None:
        keep_freed_memory()  # before anything imports torch
        self._plan, self._prefixes = plan, prefixes

    def __call__(self, part: Columns) -> Columns:
        """One part, or the failure that ends the run: an exception would make the cluster try again."""
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
        found = embed_part(
            instances,
            locate=self._locate,
            reader=self._reader,
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
    def _reader(self) -> MediaReader:
        return self._plan.elsewhere.reader()

    @cached_property
    def _locate(self) -> Callable[[Instance], Location]:
        return self._plan.elsewhere.locator(self._reader)

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
    return {
        "id": [instance.id for instance in part],
        "modality": [instance.modality for instance in part],
        "source": [instance.source for instance in part],
    }


def _raise_failure(result: Columns) -> None:
    """Raise what a worker could not go on after, as the error it was."""
    if "failure" in result:
        kind, _, message = str(result["failure"][0]).partition(":")
        raise _FAILURES.get(kind, RunError)(message)


def _take_in(result: Columns, cache: EmbeddingCache, hashes: dict[int, str], skipped: dict[int, str]) -> None:
    """Rows to the cache, hashes and reasons to the run."""
    for number, content_hash, reason, row in _instances(result):
        if reason:
            skipped[number] = reason
        else:
            hashes[number] = content_hash
        if row:
            cache.append([content_hash], np.frombuffer(row, dtype=np.float32)[None])


def _instances(result: Columns) -> Iterator[tuple[int, str, str, bytes]]:
    columns = (result[name] for name in ("id", "content_hash", "skipped", "row"))
    for number, content_hash, reason, row in zip(*columns, strict=True):
        yield int(number), str(content_hash), str(reason), bytes(row)

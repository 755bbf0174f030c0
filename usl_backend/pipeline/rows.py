"""The stages fetch and embed, which turn a source into a pool of embedded rows."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from usl_backend.embedding.choice import encoders_for
from usl_backend.embedding.cluster import Elsewhere
from usl_backend.embedding.encoding import load_encoding
from usl_backend.encoders.allocator import return_freed_memory, return_large_blocks
from usl_backend.encoders.choosing import EncoderChoice
from usl_backend.runs.counters import Count
from usl_backend.runs.inventory import VECTORS
from usl_backend.runs.retention import CACHE

if TYPE_CHECKING:
    from usl_backend.instances import Instance, Pool
    from usl_backend.runs import RunFiles, RunStore
    from usl_backend.runs.inventory import Inventory
    from usl_backend.runs.progress import RunProgress
    from usl_backend.settings import HostSettings, RunSettings
    from usl_backend.sources.base import Source

logger = logging.getLogger(__name__)


class Stages:
    """Timer of one attempt's stages, which also announces them and counts them for the metrics.

    Parameters
    ----------
    store
        Store of the counters.
    progress
        Receives the progress of the stages.

    Attributes
    ----------
    seconds
        Wall time of each computed stage in seconds.
    """

    def __init__(self, store: RunStore, progress: RunProgress) -> None:
        self.store, self.progress = store, progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time the block as one stage."""
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 3)
        stage = {"stage": name}
        self.store.add_counts([Count("stages", 1, stage), Count("stage_seconds", self.seconds[name], stage)])
        logger.info("run %s: %s took %.1f s", self.progress.run_id, name, self.seconds[name])


class Rows:
    """Runs the stages fetch and embed; a stage whose artifact exists is only read back.

    Parameters
    ----------
    settings
        Settings of the run, of which `encoder` and `image_size` are used.
    files
        Artifacts of the run.
    source
        Source of the instances.
    host
        Directories and limits of this host.
    stages
        Timer of the stages.

    Attributes
    ----------
    encoded
        Number of embeddings that were not in the cache; None if an earlier attempt built the pool.
    choice
        Encoders of the pool, once it is embedded.
    """

    def __init__(
        self, settings: RunSettings, files: RunFiles, source: Source, *, host: HostSettings, stages: Stages
    ) -> None:
        self.settings, self.files, self.source, self.host = settings, files, source, host
        self.stages, self.progress = stages, stages.progress
        self.encoded: int | None = None
        self.choice = EncoderChoice()

    def fetch(self) -> tuple[Sequence[Instance], Inventory]:
        """Run the first stage; return the instances and the inventory of their pool."""
        if not self.files.has_instances():
            with self.stages.timed("fetch"):
                self.source.fetch(self.files, self.progress.stage("fetch"))
                self.progress.kept()
        return self.files.read_instances(), self.files.read_inventory()

    def embed(self, instances: Sequence[Instance], inventory: Inventory) -> tuple[Pool, list[str], str]:
        """Run the second stage; return the pool, the content hash of each row, and the encoder key."""
        if inventory.brings_vectors:
            key = VECTORS
            if not self.files.has_pool():
                with self.stages.timed("embed"):
                    self.source.store_vectors(self.files, self.progress.stage("embed"))
                    self._pool_is_there()
        else:
            key = self._encode(instances, inventory)
            # The encoder's; the selection needs much of its own, and a training the same blocks again and again.
            trains = self.settings.selector().trains_on is not None
            (return_freed_memory if trains else return_large_blocks)()
        pool, hashes = self.files.read_pool()
        return pool, hashes, key

    def _encode(self, instances: Sequence[Instance], inventory: Inventory) -> str:
        """Embed the instances unless already done; return the encoder key."""
        report = self.progress.stage("embed")
        missing = not self.files.has_pool()
        if missing:
            report("loading the encoder", 0, len(instances))
        self.choice = self._choice(instances, inventory)
        address = self.host.ray_address
        encoding = load_encoding(
            self.settings,
            inventory.fields,
            choice=self.choice,
            directory=self.host.encoders,
            elsewhere=Elsewhere(address, self.source.access(inventory)) if address else None,
        )
        if missing:
            with self.stages.timed("embed"), self.source.open_media(inventory) as media:
                pool, hashes = encoding.embed(
                    instances,
                    media=media,
                    cache_directory=self.host.model_dir / CACHE,
                    directory=self.files.directory,
                    progress=report,
                    workers=self.host.media_workers,
                    kept=self.progress.kept,
                    missing=self.host.media_missing,
                )
                self.files.write_pool(pool, hashes)
                self.encoded = encoding.encoded
                self._pool_is_there()
        return encoding.key

    def _choice(self, instances: Sequence[Instance], inventory: Inventory) -> EncoderChoice:
        """Choose the encoders, or read which ones the run or an earlier attempt at it chose."""
        if not self.files.has_encoders() and not self.files.has_pool():
            choice = encoders_for(
                instances,
                inventory.fields,
                settings=self.settings,
                open_media=lambda: self.source.open_media(inventory),
                directory=self.host.encoders,
            )
            if choice.warning:
                logger.warning("run %s: %s", self.progress.run_id, choice.warning)
            self.files.write_encoders(choice)
        return self.files.read_encoders(self.settings.encoder, inventory.fields)

    def _pool_is_there(self) -> None:
        """Record that the stage is complete, and count the embedded and skipped instances."""
        self.progress.kept()
        pool, _ = self.files.read_pool()
        self.stages.store.add_counts(
            [
                Count("tasks", len(pool), {"outcome": "read"}),
                Count("tasks", len(pool.skipped), {"outcome": "skipped"}),
                Count("embeddings", self.encoded or 0, {}),
            ]
        )

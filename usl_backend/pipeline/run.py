"""The stages of one run, joined. Nothing of a stage is computed here, and no process, lock or signal is handled."""

from __future__ import annotations

import logging
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.distributed import ClusterBlocks, connect
from usl_backend.embedding.cluster import Elsewhere, Locator, StudioLocator
from usl_backend.embedding.encoding import load_encoding
from usl_backend.encoders.allocator import keep_freed_memory
from usl_backend.instances import pool_digest
from usl_backend.media import MediaReader
from usl_backend.pipeline.finetune import picture_trainer, wants_pictures
from usl_backend.pipeline.pictures import PICTURES
from usl_backend.pipeline.select import Readable, final_budget, rows_of, search, select
from usl_backend.pipeline.summary import skipped_tasks, summarize
from usl_backend.runs.counters import Count
from usl_backend.runs.retention import CACHE, tidy
from usl_backend.selection.rows.threads import computing_on
from usl_backend.settings import RunSettings
from usl_backend.sinks.control import control_rows
from usl_backend.sinks.queue import publish
from usl_backend.sinks.reserve import reserve_rows
from usl_backend.sources.project import Project, fetch
from usl_backend.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from usl_backend.instances import Instance, Pool
    from usl_backend.media import Location
    from usl_backend.runs import Run, RunFiles, RunStore
    from usl_backend.runs.progress import Progress
    from usl_backend.selection.base import Neighbors, Selection
    from usl_backend.selection.uslt.finetuning import PictureTrainer
    from usl_backend.settings import HostSettings
    from usl_backend.studio.client import StudioClient

logger = logging.getLogger(__name__)

LIBRARIES = ("numpy", "torch", "faiss-cpu", "pillow", "label-studio-sdk")
"""Distributions whose version may change a result."""


def execute(
    run: Run, *, store: RunStore, host: HostSettings, client: StudioClient | None, report: Progress
) -> dict[str, Any]:
    """Compute what is missing of a run: fetch, embed, select, publish.

    A stage whose artifact exists is not computed again, so an interrupted run goes on where it stopped. The
    process keeps its peak memory until it ends (`encoders.allocator`): not to be called in a server.

    Parameters
    ----------
    run
        A running run.
    store
        Holds its record and its files.
    host
        Directories and limits of this host.
    client
        Door to Label Studio; None for a pool outside it that is not imported there.
    report
        Told where the run is; raises `CancelledError` to stop it.

    Returns
    -------
    dict
        The run's summary; the record is already finished with it.

    Raises
    ------
    USLError
        The run cannot be completed; its record is left as it was.
    """
    keep_freed_memory()  # before anything imports torch
    if run.pool:
        from usl_backend.pipeline.outside import OutsideExecution

        return OutsideExecution(run, store, host, report, client).complete()
    assert client is not None, "a project's run needs Label Studio"
    return StudioExecution(run, store, host, report, client).complete()


class Execution(ABC):
    """One attempt at one run; where instances come from and where picks go is its subclasses' matter."""

    def __init__(self, run: Run, store: RunStore, host: HostSettings, report: Progress) -> None:
        self.run, self.store, self.host, self.report = run, store, host, report
        self.settings = RunSettings.from_json(run.settings)
        self.files: RunFiles = store.files(run.id)
        self.seconds: dict[str, float] = {}
        self.encoded: int | None = None

    def complete(self) -> dict[str, Any]:
        """All stages, then the record."""
        instances, project = self._fetch()
        pool, hashes, key = self._embed(instances, project)
        labeled = rows_of(pool, project.labeled)
        budget = self._budget(pool, project, labeled)
        free = np.setdiff1d(np.arange(len(pool)), labeled)
        control = control_rows(free, self.settings.control, seed=self.settings.seed)
        selection = self._select(pool, hashes, instances, budget, labeled)
        published = self._published(pool, project, selection, labeled, control)
        digest = pool_digest(pool.ids, hashes, key)
        summary = self._summary(
            summarize(
                self.run,
                self.settings,
                project=project,
                pool=pool,
                selection=selection,
                published=published,
                encoder_key=key,
                studio_url=self.host.label_studio_url,
                seconds=self.seconds,
                encoded=self.encoded,
            )
        )
        self.store.finish(self.run.id, summary, digest, self._versions())
        tidy(self.store, keep=self.host.keep_runs, cache_bytes=self.host.cache_max_bytes)
        return summary

    @abstractmethod
    def _fetch(self) -> tuple[Sequence[Instance], Project]:
        """First stage: instances, and what is known of where they come from."""

    @abstractmethod
    def _locate(self, instance: Instance) -> Location:
        """Where the bytes of an instance are."""

    @abstractmethod
    def _locator(self) -> Locator:
        """The same for workers elsewhere."""

    @abstractmethod
    def _publish(
        self, pool: Pool, project: Project, *, picks: list[int], reserve: list[int], control: list[int]
    ) -> dict[str, Any]:
        """Last stage: hand over the picks, instance ids in rank order; what was published, JSON-able."""

    def _summary(self, summary: dict[str, Any]) -> dict[str, Any]:
        """The summary with what only such runs have."""
        return summary

    def _embed(self, instances: Sequence[Instance], project: Project) -> tuple[Pool, list[str], str]:
        """Second stage: embeddings, and the key of what made them."""
        missing = not self.files.has_pool()
        if missing:
            self.report("embed", 0, len(instances), "loading the encoder")
        encoding = load_encoding(
            self.settings, project.fields, directory=self.host.encoders, elsewhere=self._elsewhere()
        )
        if missing:
            with self._stage("embed", "reading and encoding"), self._reader() as reader:
                pool, hashes = encoding.embed(
                    instances,
                    locate=self._locate,
                    reader=reader,
                    cache_directory=self.host.model_dir / CACHE,
                    directory=self.files.directory,
                    progress=lambda stage, done, total: self.report(
                        stage, done, total, "reading and encoding"
                    ),
                    workers=self.host.media_workers,
                    kept=self.report.kept,
                )
                self.encoded = encoding.encoded
                self.files.write_pool(pool, hashes)
                self.report.kept()
                self._count_tasks(read=len(pool), skipped=len(pool.skipped), encoded=self.encoded)
        pool, hashes = self.files.read_pool()
        return pool, hashes, encoding.key

    def _count_tasks(self, *, read: int, skipped: int, encoded: int) -> None:
        """What became of the tasks, for whoever watches all runs."""
        self.store.add_counts(
            [
                Count("tasks", read, {"outcome": "read"}),
                Count("tasks", skipped, {"outcome": "skipped"}),
                Count("embeddings", encoded, {}),
            ]
        )

    def _elsewhere(self) -> Elsewhere | None:
        """The cluster that embeds, where there is one."""
        if not self.host.ray_address:
            return None
        return Elsewhere(self.host.ray_address, reader=self._reader, locator=self._locator())

    @property
    def _reader(self) -> Callable[[], MediaReader]:
        """Makes the guarded reader, under this host's limits, here or elsewhere."""
        return partial(
            MediaReader,
            limits=self.host.media_limits,
            local_roots=self._roots(),
            object_stores=bool(self.run.pool),
            allowed_hosts=self.host.allowed_hosts,
        )

    def _roots(self) -> tuple[Path, ...]:
        """Folders below which files may be read."""
        root = self.host.label_studio_local_files_document_root
        return () if root is None else (root,)

    def _budget(self, pool: Pool, project: Project, labeled: np.ndarray[Any, Any]) -> int:
        """Number of tasks to choose, now that it is known what can be read."""
        skipped = skipped_tasks(project, pool)
        free = len(pool) - len(labeled)
        readable = Readable(rows=free, listed=free + len(skipped), skipped=skipped)
        return final_budget(self.settings, readable, classes=len(project.classes), run_id=self.run.id)

    def _select(
        self,
        pool: Pool,
        hashes: Sequence[str],
        instances: Sequence[Instance],
        budget: int,
        labeled: np.ndarray[Any, Any],
    ) -> Selection:
        """Third stage: the picks."""
        if not self.files.has_selection():
            free = len(pool) - len(labeled)
            with self._stage("select", f"choosing {budget} of {free} tasks"), self._computing():
                chosen = select(
                    pool,
                    self.settings,
                    budget,
                    labeled=labeled,
                    neighbors=self._neighbors(pool),
                    progress=self._selecting,
                    checkpoint=self.files.checkpoint(),
                    trainer=self._trainer(pool, hashes, instances),
                )
                self.files.write_selection(chosen)
                self.files.checkpoint().clear()
                (self.files.directory / PICTURES).unlink(missing_ok=True)
                self.report.kept()
        return self.files.read_selection()

    def _trainer(
        self, pool: Pool, hashes: Sequence[str], instances: Sequence[Instance]
    ) -> PictureTrainer | None:
        """What a method trains that wants the pictures; None for all others."""
        if not wants_pictures(self.settings):
            return None
        with self._reader() as reader:
            return picture_trainer(
                self.settings,
                pool,
                hashes,
                instances,
                encoders=self.host.encoders,
                locate=self._locate,
                reader=reader,
                directory=self.files.directory,
                progress=self.report.of("select", "reading pictures"),
                workers=self.host.media_workers,
            )

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Let the cluster compute the blocks of a selection, where there is one."""
        if not self.host.ray_address:
            yield
            return
        with connect(self.host.ray_address) as cluster, computing_on(ClusterBlocks(cluster)):
            yield

    def _neighbors(self, pool: Pool) -> Neighbors | None:
        """The neighbor search, the longest part of a selection, kept as an artifact of its own."""
        if not self.files.has_neighbors():
            found = search(pool, self.settings, progress=self._selecting)
            if found is None:
                return None
            self.files.write_neighbors(found)
            self.report.kept()
        return self.files.read_neighbors()

    def _selecting(self, step: str, done: int, total: int) -> None:
        """Progress of the selection, whose steps count anew."""
        self.report("select", done, total, step)

    def _published(
        self,
        pool: Pool,
        project: Project,
        selection: Selection,
        labeled: np.ndarray[Any, Any],
        control: np.ndarray[Any, Any],
    ) -> dict[str, Any]:
        """Last stage: the queue."""
        if not self.files.has_published():
            with self._stage("publish", None if self.run.dry_run else "writing the queue"):
                near = self.files.read_neighbors() if self.files.has_neighbors() else None
                taken = np.union1d(labeled, control)
                reserve = reserve_rows(selection, self.settings.reserve, excluded=taken, neighbors=near)
                self.files.write_published(
                    self._publish(
                        pool,
                        project,
                        picks=pool.ids[selection.indices].tolist(),
                        reserve=pool.ids[reserve].tolist(),
                        control=pool.ids[control].tolist(),
                    )
                )
        return self.files.read_published()

    @contextmanager
    def _stage(self, name: str, step: str | None) -> Iterator[None]:
        """Announce a stage, unless there is no step to name, and time it."""
        if step is not None:
            self.report(name, 0, 0, step)
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 3)
        stage = {"stage": name}
        self.store.add_counts([Count("stages", 1, stage), Count("stage_seconds", self.seconds[name], stage)])
        logger.info("run %s: %s took %.1f s", self.run.id, name, self.seconds[name])

    def _versions(self) -> dict[str, str]:
        """What computed the result."""
        found = {"usl-backend": VERSION, "python": platform.python_version()}
        for library in LIBRARIES:
            try:
                found[library] = version(library)
            except PackageNotFoundError:
                continue
        return found


class StudioExecution(Execution):
    """A run over a project's tasks, whose picks become the project's queue."""

    def __init__(
        self, run: Run, store: RunStore, host: HostSettings, report: Progress, client: StudioClient
    ) -> None:
        super().__init__(run, store, host, report)
        self.client = client

    def _fetch(self) -> tuple[list[Instance], Project]:
        if not self.files.has_instances():
            with self._stage("fetch", "listing tasks"):
                found, project = fetch(
                    self.client,
                    self.run.project,
                    self.settings,
                    project_key=self.run.project_key,
                    progress=self.report.of("fetch", "listing tasks"),
                )
                self.files.write_instances(found, project.to_json())
                self.report.kept()
        instances, meta = self.files.read_instances()
        return instances, Project.from_json(meta)

    def _locate(self, instance: Instance) -> Location:
        return self.client.locate(instance.id, instance.source)

    def _locator(self) -> Locator:
        return StudioLocator(self.client.url)

    def _publish(
        self, pool: Pool, project: Project, *, picks: list[int], reserve: list[int], control: list[int]
    ) -> dict[str, Any]:
        del pool  # tasks are known by their ids
        return publish(
            self.client,
            self.run,
            store=self.store,
            project_id=project.id,
            project_key=project.key,
            picks=picks,
            reserve=reserve,
            control=control,
            progress=self.report.of("publish", "writing the queue"),
        )

    def _versions(self) -> dict[str, str]:
        return {**super()._versions(), "label-studio": self.client.version()}

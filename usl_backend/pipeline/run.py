"""Execution of a run's stages in order: fetch, embed, select, publish; completed stages are skipped."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from usl_backend.distributed import ClusterBlocks, connect
from usl_backend.encoders.allocator import return_freed_memory
from usl_backend.errors import InputError
from usl_backend.instances import pool_digest
from usl_backend.outliers import find_outliers
from usl_backend.pipeline.finetune import PICTURES, picture_trainer, trains_on_images
from usl_backend.pipeline.rows import Rows, Stages
from usl_backend.pipeline.select import (
    Readable,
    choose_next,
    final_budget,
    fit,
    measure_budgets,
    search,
    select,
)
from usl_backend.pipeline.summarize import summarize
from usl_backend.runs.budget_curves import load_budgets
from usl_backend.runs.projects import StandingWishes
from usl_backend.runs.retention import tidy
from usl_backend.selection.rows.threads import computing_on
from usl_backend.settings import RunSettings
from usl_backend.sinks.control import control_rows, earlier_control, further_rows
from usl_backend.sinks.making_up import current_queue, made_up_warnings
from usl_backend.sinks.queue import QueueSink
from usl_backend.sinks.table import TableSink
from usl_backend.sinks.tasks import TasksSink
from usl_backend.sources.listed import ListSource
from usl_backend.sources.project import ProjectSource
from usl_backend.sources.target import Target
from usl_backend.sources.wishes import find_wishes
from usl_backend.version import VERSION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.instances import Instance, Pool, Queue
    from usl_backend.progress import Progress
    from usl_backend.runs import Run, RunFiles, RunStore
    from usl_backend.runs.inventory import Inventory
    from usl_backend.runs.progress import RunProgress
    from usl_backend.runs.published import Published
    from usl_backend.runs.summary import Summary
    from usl_backend.selection.base import Neighbors, Selection
    from usl_backend.selection.rows.preparation import Projection
    from usl_backend.selection.uslt.finetuning import PictureTrainer
    from usl_backend.settings import HostSettings
    from usl_backend.sinks.base import Sink
    from usl_backend.sources.base import Source
    from usl_backend.sources.wishes import Steered, Wishes
    from usl_backend.studio.client import StudioClient

logger = logging.getLogger(__name__)

LIBRARIES = ("numpy", "torch", "pillow", "label-studio-sdk")
"""Distributions whose versions can affect a result."""


def execute(
    run: Run, *, store: RunStore, host: HostSettings, client: StudioClient | None, progress: RunProgress
) -> Summary:
    """Compute the missing stages of a run: fetch, embed, select, publish.

    A stage whose artifact exists is not computed again, so an interrupted run continues where it stopped. Call it in
    a process of its own, which keeps the memory that it frees (`encoders.allocator`).

    Parameters
    ----------
    run
        A running run.
    store
        Store of its record and its files.
    host
        Directories and limits of this host.
    client
        Label Studio client; None for a pool outside Label Studio that is not imported there.
    progress
        Receives the run's progress; raises `CancelledError` to stop it.

    Returns
    -------
    Summary
        Summary of the run, already stored in its record.

    Raises
    ------
    USLError
        The run cannot be completed; its record is not changed.
    """
    settings, files = RunSettings.from_json(run.settings), store.files(run.id)
    source: Source
    sink: Sink
    if not run.pool:
        assert client is not None, "a project's run needs Label Studio"
        source = ProjectSource(client, run.project, project_key=run.project_key, settings=settings, host=host)
        sink = QueueSink(client, run, store)
    else:
        sink = TableSink(files) if client is None else TasksSink(client, run, store, host)
        source = ListSource(
            Target.from_json(run.target),
            settings=settings,
            host=host,
            files=files,
            classes=sink.classes if isinstance(sink, TasksSink) else tuple,
        )
    return Execution(run, source, sink, store=store, host=host, progress=progress).complete()


class Execution:
    """One attempt at one run.

    Parameters
    ----------
    run
        A running run.
    source, sink
        Source of its instances, and destination of its picks.
    store
        Store of its record and its files.
    host
        Directories and limits of this host.
    progress
        Receives the run's progress.
    """

    def __init__(
        self,
        run: Run,
        source: Source,
        sink: Sink,
        *,
        store: RunStore,
        host: HostSettings,
        progress: RunProgress,
    ) -> None:
        self.run, self.source, self.sink = run, source, sink
        self.store, self.host, self.progress = store, host, progress
        self.settings = RunSettings.from_json(run.settings)
        self.files: RunFiles = store.files(run.id)
        self.stages = Stages(store, progress)
        self.rows = Rows(self.settings, self.files, source, host=host, stages=self.stages)

    def complete(self) -> Summary:
        """Run all stages, then mark the record as done."""
        instances, inventory = self.rows.fetch()
        # Before hours of embedding, where ids are known then.
        wishes = None if inventory.brings_vectors else self._wishes(instances, inventory)
        pool, hashes, key = self.rows.embed(instances, inventory)
        steered = (wishes or self._wishes(instances, inventory)).in_pool(pool, inventory.unread(pool))
        labeled = pool.rows_of(inventory.labeled)
        outliers = find_outliers(pool.traits)
        if self.settings.exclude_outliers:
            steered = steered.without_outliers(outliers.rows, labeled=labeled)
        selection = self._select(pool, hashes, instances, inventory, labeled, steered)
        if self.run.dry_run and not self.run.pool:
            self._measure(pool, inventory, labeled)
        selection, published = self._publish(pool, selection, labeled, steered)
        summary = self.sink.describe(
            summarize(
                self.run,
                self.settings,
                inventory=inventory,
                pool=pool,
                selection=selection,
                published=published,
                outliers=outliers,
                encoder_key=key,
                choice=self.rows.choice,
                seconds=self.stages.seconds,
                encoded=self.rows.encoded,
                warnings=(*self.source.warnings(inventory, inventory.unread(pool)), *steered.warnings),
            ),
            published,
        )
        digest = pool_digest(pool.ids, hashes, key)
        self.store.finish(self.run.id, summary, digest, versions() | dict(self.sink.versions()))
        tidy(self.store, keep=self.host.keep_runs, cache_bytes=self.host.cache_max_bytes)
        return summary

    def _select(
        self,
        pool: Pool,
        hashes: Sequence[str],
        instances: Sequence[Instance],
        inventory: Inventory,
        labeled: NDArray[np.int64],
        steered: Steered,
    ) -> Selection:
        """Run the third stage; return the selection."""
        skipped = inventory.unread(pool)
        kept_out = len(steered.outliers)
        free = len(pool) - len(np.union1d(labeled, steered.unpicked))
        readable = Readable(
            rows=free, listed=free + kept_out + len(skipped), skipped=skipped, outliers=kept_out
        )
        budget = final_budget(
            self.settings,
            readable,
            classes=len(inventory.classes),
            run_id=self.run.id,
            pinned=len(steered.pinned),
        )
        if not self.files.has_selection():
            report = self.progress.stage("select")
            report(f"choosing {budget} of {free} tasks", 0, 0)
            with self.stages.timed("select"), self._computing():
                if self.settings.next:
                    chosen = self._next_round(pool, budget, inventory, labeled, steered, report)
                else:
                    projection = fit(pool, self.settings)
                    chosen = select(
                        pool,
                        self.settings,
                        budget,
                        labeled=labeled,
                        steered=steered,
                        projection=projection,
                        neighbors=self._neighbors(pool, projection),
                        progress=report,
                        checkpoint=self.files.checkpoint(),
                        trainer=self._trainer(pool, hashes, instances, inventory),
                    )
                self.files.write_selection(chosen)
                self.files.checkpoint().clear()
                (self.files.directory / PICTURES).unlink(missing_ok=True)
                self.progress.kept()
        return self.files.read_selection()

    def _wishes(self, instances: Sequence[Instance], inventory: Inventory) -> Wishes:
        """Look up the pinned and excluded ids."""
        standing = self.store.wishes(inventory.key) if inventory.key else StandingWishes()
        return find_wishes(
            self.settings,
            inventory=inventory,
            instances=instances,
            files=self.files,
            standing={str(task) for task in (*standing.pinned, *standing.excluded)},
        )

    def _next_round(
        self,
        pool: Pool,
        budget: int,
        inventory: Inventory,
        labeled: NDArray[np.int64],
        steered: Steered,
        report: Progress,
    ) -> Selection:
        """Choose by the labels that are there; they are stored, so that a resumed run goes by the same ones."""
        if not self.files.has_labels():
            report("reading the labels", 0, 0)
            self.files.write_labels(self.source.labels(self.files))
        return choose_next(
            pool,
            self.settings,
            budget,
            labels=self.files.read_labels(),
            withheld=self._handed_on(pool),
            classes=inventory.classes,
            labeled=labeled,
            steered=steered,
            neighbors=self._neighbors(pool),
            progress=report,
        )

    def _handed_on(self, pool: Pool) -> tuple[int, ...]:
        """Return the control set of the run before, where labels are kept."""
        return earlier_control(self.run, pool, store=self.store) if self.settings.keep_labels else ()

    def _neighbors(self, pool: Pool, projection: Projection | None = None) -> Neighbors | None:
        """Return the neighbor search, the longest part of a selection, stored as a separate artifact."""
        if not self.files.has_neighbors():
            report = self.progress.stage("select")
            found = search(pool, self.settings, projection=projection, progress=report)
            if found is None:
                return None
            self.files.write_neighbors(found)
            self.progress.kept()
            return_freed_memory(cycles=False)  # of the search
        return self.files.read_neighbors()

    def _trainer(
        self, pool: Pool, hashes: Sequence[str], instances: Sequence[Instance], inventory: Inventory
    ) -> PictureTrainer | None:
        """Build the trainer of a method that trains on images; None for other methods."""
        if not trains_on_images(self.settings):
            return None
        with self.source.open_media(inventory) as media:
            return picture_trainer(
                self.settings,
                pool,
                hashes,
                instances,
                encoders=self.host.encoders,
                media=media,
                directory=self.files.directory,
                progress=self.progress.stage("select"),
                workers=self.host.media_workers,
            )

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Compute the blocks of a selection on the cluster, if one is configured."""
        if not self.host.ray_address:
            yield
            return
        with connect(self.host.ray_address) as cluster, computing_on(ClusterBlocks(cluster)):
            yield

    def _publish(
        self, pool: Pool, selection: Selection, labeled: NDArray[np.int64], steered: Steered
    ) -> tuple[Selection, Published]:
        """Run the last stage; return the selection, whose lost picks were made up for, and the published queue."""
        if not self.files.has_published() or self._was_dry():
            report = self.progress.stage("publish")
            if not self.run.dry_run:
                report("writing the queue", 0, 0)
            with self.stages.timed("publish"):
                before = selection
                selection, queue = self._queue(pool, before, labeled, steered)
                if selection is not before:
                    self.files.write_selection(selection)
                published = self.sink.publish(queue, report)
                told = (*made_up_warnings(selection, queue), *published.warnings)
                self.files.write_published(replace(published, warnings=told))
        published = self.files.read_published()
        self.sink.complete(published, pool, selection)
        return selection, published

    def _measure(self, pool: Pool, inventory: Inventory, labeled: NDArray[np.int64]) -> None:
        """Measure what other budgets would reach: a dry run is there to decide on one."""
        if load_budgets(self.files) is not None:
            return
        report = self.progress.stage("select")
        try:
            with self._computing():
                measure_budgets(
                    self.files,
                    pool,
                    self.settings,
                    classes=len(inventory.classes),
                    labeled=labeled,
                    progress=report,
                )
        except InputError as error:
            logger.warning("run %s: other budgets could not be measured: %s", self.run.id, error)

    def _was_dry(self) -> bool:
        """Return True if the recorded queue is that of a dry run which is published only now."""
        if self.run.dry_run or self.run.pool:
            return False
        return self.files.read_published().model_version is None

    def _queue(
        self, pool: Pool, selection: Selection, labeled: NDArray[np.int64], steered: Steered
    ) -> tuple[Selection, Queue]:
        """Build the queue: the picks, a control set drawn from the whole pool, and the reserve; see `current_queue`."""
        barred = np.union1d(labeled, steered.excluded)
        free = np.setdiff1d(np.arange(len(pool)), barred)
        excluded = set(steered.excluded.tolist())
        known = [pool.row_of(one) for one in self._handed_on(pool)]
        handed_on = np.array([row for row in known if row is not None and row not in excluded], np.int64)
        if len(handed_on):
            lacking = max(0, self.settings.control - len(handed_on))
            more = further_rows(np.setdiff1d(free, handed_on), lacking, n=len(pool), seed=self.settings.seed)
            control = np.concatenate([handed_on, more])
        else:
            control = control_rows(free, self.settings.control, seed=self.settings.seed)
        return current_queue(
            pool,
            selection,
            barred=barred,
            unpicked=steered.outliers,
            drawn=control,
            settings=self.settings,
            neighbors=self.files.read_neighbors() if self.files.has_neighbors() else None,
            changes=self.sink.changes,
        )


def versions() -> dict[str, str]:
    """Return the versions of the software that computes a result in this process."""
    found = {"usl-backend": VERSION, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found

"""Computation of a run's report from its artifacts."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import RunError
from usl_backend.evaluation.reach import reach
from usl_backend.outliers import find_outliers
from usl_backend.report.again import again
from usl_backend.report.gallery import COPIES, GROUPS, OUTLIERS, lowest_rows, near_duplicates, neighborhoods
from usl_backend.report.layout import NEIGHBORS, lay_out, shown_rows
from usl_backend.report.naming import cluster_names
from usl_backend.report.record import (
    DIMENSIONS,
    LAYOUT,
    ClusterView,
    Low,
    MapNote,
    MapPoints,
    Report,
    load,
    save,
)
from usl_backend.report.training import training_figures
from usl_backend.report.trust import stability, trust
from usl_backend.report.why import explain, percentiles
from usl_backend.runs import RunState
from usl_backend.runs.summary import outlier_note
from usl_backend.selection import METHODS
from usl_backend.selection.rows.density import density
from usl_backend.selection.rows.neighbors import nearest_neighbors
from usl_backend.selection.rows.preparation import fit_projection
from usl_backend.selection.steering import EXCLUDED, KEPT_OUT
from usl_backend.settings import RunSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.instances import Pool
    from usl_backend.progress import Progress
    from usl_backend.runs import Run, RunFiles
    from usl_backend.selection.base import Neighbors, Selection

logger = logging.getLogger(__name__)


def build(run: Run, files: RunFiles, *, force: bool = False, progress: Progress | None = None) -> Report:
    """Compute and store the report of a run, or read it if it exists.

    All comparisons use one space: embeddings are centered, projected to at most 128 principal components and
    normalized to unit length.

    Parameters
    ----------
    run
        Record of the run, of which id, state and settings are used.
    files
        Artifacts of the run; pool and selection are required.
    force
        Compute an existing report again.
    progress
        Receives the current step; may raise to stop the computation.

    Returns
    -------
    Report
        The stored report.

    Raises
    ------
    RunError
        The run is not done, or its files were removed.
    """
    if not force and (known := load(files)) is not None:
        return known
    if run.state is not RunState.DONE:
        raise RunError(f"run {run.id} is {run.state}; its report can be computed once it is done")
    if not (files.has_pool() and files.has_selection()):
        raise RunError(
            f"the files of run {run.id} were removed to free disk space; select again to get a report"
        )
    return _Build(
        run, files, progress or (lambda step, _done, _total: logger.info("report of %s: %s", run.id, step))
    ).build()


class _Build:
    """State of one report computation."""

    def __init__(self, run: Run, files: RunFiles, progress: Progress) -> None:
        self.run, self.files, self.progress = run, files, progress
        self.settings = RunSettings.from_json(run.settings)
        self.seconds: dict[str, float] = {}
        self.begun = time.monotonic()

    def build(self) -> Report:
        inventory = self.files.read_inventory()
        first = next(self.files.each_instance(), None)
        located = first is not None and first.located
        pool, _ = self.files.read_pool()
        selection = self.files.read_selection()
        held = pool.rows_of(inventory.labeled)
        self.step("comparing")
        rows = fit_projection(pool.embeddings, dimensions=DIMENSIONS).apply(pool.embeddings)
        neighbors = self.neighbors(rows, selection)
        score = selection.score
        if score is None:
            score = density(neighbors.distances, floor=1e-3) if neighbors else np.ones(len(rows), np.float32)
        percentile = percentiles(score)
        self.step("measuring coverage")
        # Use a separate seed: random selections must be independent of the run's.
        rng = np.random.default_rng([self.settings.seed, 0x5EED])
        found = reach(rows, selection.indices, rng=rng, held=held)
        whys = explain(
            pool.ids, rows, selection, percentile=percentile, coverage=found.picks, before=found.before
        )
        self.step("building galleries")
        copies = near_duplicates(selection.diagnostics, rows, neighbors=neighbors)
        groups = copies.groups[:GROUPS]
        barred = [held, *(selection.diagnostics.get(name, ()) for name in (EXCLUDED, KEPT_OUT))]
        near = neighborhoods(rows, selection, barred=np.concatenate(barred).astype(np.int64))
        names = [""] * len(near) if located else self.names(pool, selection)
        self.step("selecting with other seeds")
        steady, note = None, None
        if self.settings.method not in METHODS:
            note = (
                f"Not computed: the method {self.settings.method} is no longer part of this version, "
                "so nothing can be selected with it again."
            )
        elif selection.parameters.get("mode") == "finetune":
            note = "Not computed: every other seed would train the encoder once more."
        elif selection.diagnostics.get("next", {}).get("rule", "keep-labels") != "keep-labels":
            note = "Not computed: this next round was chosen by the labels, which stay the same with other seeds."
        else:
            steady = stability(
                again(pool.embeddings, selection, self.settings, held=held),
                rows=rows,
                reach=found,
                rng=rng,
                held=held,
            )
        figures = trust(
            selection,
            found,
            n=len(pool),
            copies=copies,
            stability=steady,
            stability_note=note,
        )
        self.step("drawing the map")
        points, made = self.points(pool, rows, selection, neighbors, percentile)
        self.step("")
        report = Report(
            layout=LAYOUT,
            instances=len(pool),
            modality="image" if located else "text",
            whys=whys,
            clusters=tuple(
                ClusterView(
                    rank,
                    _id(pool, one.runner_up),
                    tuple(int(pool.ids[row]) for row in one.members),
                    names[rank],
                )
                for rank, one in enumerate(near)
            ),
            lowest=tuple(Low(int(pool.ids[row]), float(percentile[row])) for row in lowest_rows(score)),
            duplicates=tuple(tuple(int(pool.ids[row]) for row in group[:COPIES]) for group in groups),
            duplicate_sizes=tuple(len(group) for group in groups),
            skipped={**inventory.skipped, **pool.skipped},
            trust=figures,
            map=made,
            seconds=self.seconds,
            training=training_figures(selection.diagnostics),
            regions=inventory.regions,
            outliers=outlier_note(
                find_outliers(pool.traits),
                pool,
                picks=pool.ids[selection.indices].tolist(),
                kept_out=self.settings.exclude_outliers,
                shown=OUTLIERS,
            ),
        )
        save(self.files, report, points)
        return report

    def step(self, name: str) -> None:
        """Report a step and time the previous one."""
        now = time.monotonic()
        if self.seconds:
            last = next(reversed(self.seconds))
            self.seconds[last] = round(now - self.begun, 3)
        self.begun = now
        if name:
            self.seconds[name] = 0.0
            self.progress(name, 0, 0)

    def neighbors(self, rows: NDArray[Any], selection: Selection) -> Neighbors | None:
        """Return the run's neighbor search, or run one for the scores of a method without any."""
        if self.files.has_neighbors():
            found = self.files.read_neighbors()
            if len(found.indices) == len(rows):
                return found
        lacking = selection.score is None and len(rows) > 1
        # the map searches among its own rows
        return nearest_neighbors(rows, k=NEIGHBORS) if lacking else None

    def names(self, pool: Pool, selection: Selection) -> list[str]:
        """Return the name of each cluster of texts."""
        texts = {one.id: one.source for one in self.files.each_instance() if not one.located}
        return cluster_names(
            (texts.get(task, "") for task in pool.ids.tolist()), selection.cluster, len(selection.indices)
        )

    def points(
        self,
        pool: Pool,
        rows: NDArray[Any],
        selection: Selection,
        neighbors: Neighbors | None,
        percentile: NDArray[np.float64],
    ) -> tuple[MapPoints, MapNote]:
        """Compute the map and the note on its method."""
        shown = shown_rows(len(pool), selection.indices)
        whole = len(shown) == len(pool)
        layout = lay_out(
            rows if whole else rows[shown],
            neighbors=neighbors if whole else None,
            picks=np.searchsorted(shown, selection.indices),
            seed=self.settings.seed,
        )
        rank = np.full(len(pool), -1, dtype=np.int32)
        rank[selection.indices] = np.arange(len(selection.indices), dtype=np.int32)
        points = MapPoints(
            ids=pool.ids[shown],
            points=layout.points,
            cluster=selection.cluster[shown].astype(np.int32),
            density=percentile[shown].astype(np.uint8),
            rank=rank[shown],
        )
        return points, MapNote(layout.method, layout.note, len(shown))


def _id(pool: Pool, row: int | None) -> int | None:
    """Return the instance id of a row."""
    return None if row is None else int(pool.ids[row])

"""The stage select: choose rows of the pool with the configured method."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from usl_backend.cpus import usable_cpus
from usl_backend.errors import InputError
from usl_backend.evaluation.budgets import MOST, TIMES, budget_curve
from usl_backend.runs.budget_curves import save_budgets
from usl_backend.selection.rows.preparation import fit_projection
from usl_backend.selection.steering import NOTHING, select_steered
from usl_backend.settings import RunSettings
from usl_backend.settings.budget import default_rows
from usl_backend.sources.wishes import UNSTEERED, check_pins
from usl_backend.suggestions import next_round

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.evaluation.budgets import BudgetCurve
    from usl_backend.instances import Pool
    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles
    from usl_backend.selection.base import Checkpoint, Neighbors, Selection
    from usl_backend.selection.rows.preparation import Projection
    from usl_backend.selection.uslt.trainers import Trainer
    from usl_backend.sources.wishes import Steered

TRAINED = "usl-t"
"""The method that trains before it selects."""
_DIMENSIONS = 128
"""Principal components in which budgets are compared, as in the report."""


@dataclass(frozen=True)
class Readable:
    """Counts of the tasks that can be selected.

    Attributes
    ----------
    rows
        Number of pool rows without labels that can be picked.
    listed
        Number of unlabeled tasks, readable or not.
    skipped
        Task id -> reason for the unlabeled tasks that cannot be read.
    outliers
        Number of further rows without labels that are kept out of the picks, but not of the control set.
    """

    rows: int
    listed: int
    skipped: Mapping[int, str]
    outliers: int = 0


def final_budget(
    settings: RunSettings, readable: Readable, *, classes: int, run_id: str, pinned: int = 0
) -> int:
    """Resolve the budget against the number of readable tasks.

    Raises
    ------
    InputError
        No task could be read, or fewer than the budget or the control set; the message says where to find the reasons.
        Or more tasks are pinned than the budget has.
    """
    where = (
        f"see /usl/runs/{run_id} or `usl-backend status {run_id}` for the {len(readable.skipped)} unreadable"
    )
    if readable.rows == 0 and readable.outliers:
        raise InputError(
            f"all {readable.outliers} tasks that could be picked are outliers, which exclude_outliers keeps out; "
            "select without it"
        )
    if readable.rows == 0:
        task, why = min(readable.skipped.items()) if readable.skipped else (0, "it has an annotation")
        raise InputError(
            f"none of the {readable.listed} tasks could be read (task {task}: {why}); "
            f"make their media readable from this host, `usl-backend doctor` helps; {where}"
        )
    if readable.skipped and settings.budget is not None:
        wanted = settings.budget.wanted(classes=classes)
        if wanted > readable.rows:
            raise InputError(
                f"budget is {wanted} but only {readable.rows} of {readable.listed} tasks could be read; "
                f"lower the budget or {where}"
            )
    settings.check_control(readable.rows + readable.outliers)
    budget = settings.rows_to_choose(classes=classes, pool=readable.rows)
    check_pins(settings, pinned, budget)
    return budget


def select(
    pool: Pool,
    settings: RunSettings,
    budget: int,
    *,
    labeled: NDArray[np.int64],
    steered: Steered | None = None,
    projection: Projection | None = None,
    neighbors: Neighbors | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    trainer: Trainer | None = None,
) -> Selection:
    """Choose `budget` rows with the configured method.

    Parameters
    ----------
    pool
        Embedded tasks.
    settings
        Method, preset, options and seed.
    budget
        Number of rows to choose.
    labeled : (l,) int64
        Rows with labels; they are never chosen.
    steered
        Pinned and excluded rows, and outliers to keep out.
    projection
        Result of `fit`.
    neighbors
        Result of `search`.
    progress
        Called as `progress(step, done, total)`.
    checkpoint
        Stores the state of a training, so an interrupted run can continue from it.
    trainer
        Trainer for methods that train on images (`pipeline.finetune`).
    """
    method = settings.selector(workers=usable_cpus()).with_training(checkpoint=checkpoint, trainer=trainer)
    if trainer is not None and steered is not None:
        # It trains on the pictures of the whole pool.
        steered = replace(steered, excluded=steered.unpicked, outliers=NOTHING)
    wished = steered or UNSTEERED
    return select_steered(
        lambda part, count: method.select(
            part.embeddings,
            count,
            rng=settings.seed,
            labeled=part.labeled if len(part.labeled) else None,
            excluded=part.excluded if len(part.excluded) else None,
            projection=projection if part.inside is None else None,
            neighbors=neighbors if part.inside is None else None,
            progress=progress,
        ),
        pool.embeddings,
        budget,
        pinned=wished.pinned,
        labeled=labeled,
        excluded=wished.excluded,
        outliers=wished.outliers,
    )


def choose_next(
    pool: Pool,
    settings: RunSettings,
    budget: int,
    *,
    labels: Mapping[int, str],
    withheld: Collection[int],
    classes: Sequence[str],
    labeled: NDArray[np.int64],
    steered: Steered | None = None,
    neighbors: Neighbors | None,
    progress: Progress | None,
) -> Selection:
    """Choose `budget` rows by the rule for so many labels.

    Parameters
    ----------
    pool
        Embedded tasks.
    settings
        Method, preset, options and seed.
    budget
        Number of rows to choose.
    labels
        Id -> class of the labeled instances.
    withheld
        Ids of the control set: their labels teach nothing.
    classes
        Classes of the label config; may be empty.
    labeled : (l,) int64
        Rows that must not be chosen.
    steered
        Pinned and excluded rows, and outliers to keep out.
    neighbors
        Result of `search`.
    progress
        Called as `progress(step, done, total)`.
    """
    taught = {one: name for one, name in labels.items() if one not in withheld}
    names = [*classes, *sorted(set(taught.values()) - set(classes))]
    place = {name: number for number, name in enumerate(names)}
    known = np.full(len(pool), -1)
    for row, one in enumerate(pool.ids.tolist()):
        if one in taught:
            known[row] = place[taught[one]]
    if progress is not None:
        progress("suggesting", 0, 0)
    wished = steered or UNSTEERED
    return select_steered(
        lambda part, count: next_round(
            part.embeddings,
            known if part.inside is None else known[part.inside],
            count,
            rng=settings.seed,
            method=settings.selector(workers=usable_cpus()),
            held=part.labeled,
            excluded=part.excluded if len(part.excluded) else None,
            neighbors=neighbors if part.inside is None else None,
            classes=len(names) or None,
            workers=usable_cpus(),
            progress=progress,
        ),
        pool.embeddings,
        budget,
        pinned=wished.pinned,
        labeled=labeled,
        excluded=wished.excluded,
        outliers=wished.outliers,
    )


def measure_budgets(
    files: RunFiles,
    pool: Pool,
    settings: RunSettings,
    *,
    classes: int,
    labeled: NDArray[np.int64],
    progress: Progress | None = None,
) -> BudgetCurve | None:
    """Measure what the settings would reach with other budgets, up to ten times the default one; store the curve.

    One selection of the largest budget is made, and its prefixes are measured; pins and exclusions are left aside.

    Parameters
    ----------
    files
        Artifacts of the run, of which the neighbor search is used.
    pool
        Embedded tasks.
    settings
        Method, preset, options and seed.
    classes
        Number of classes in the label config; 0 if it has none.
    labeled : (l,) int64
        Rows with labels.
    progress
        Called as `progress(step, done, total)`.

    Returns
    -------
    BudgetCurve or None
        None for a method that trains, which would have to train again, and for a pool with nothing to choose.
    """
    free = len(pool) - len(labeled)
    if settings.method == TRAINED or free < 1:
        return None
    default = default_rows(classes=classes, pool=free)
    largest = min(free, max(default, min(TIMES * default, MOST)))
    neighbors = files.read_neighbors() if files.has_neighbors() else None
    order = select(pool, settings, largest, labeled=labeled, neighbors=neighbors, progress=progress).indices
    rows = fit_projection(pool.embeddings, dimensions=_DIMENSIONS).apply(pool.embeddings)
    rng = np.random.default_rng([settings.seed, 0x5EED])
    curve = budget_curve(rows, order, default=default, rng=rng, held=labeled, progress=progress)
    save_budgets(files, curve)
    return curve


def fit(pool: Pool, settings: RunSettings) -> Projection | None:
    """Find the projection that `search` and `select` share; None if the method needs none."""
    return settings.selector().fit(pool.embeddings)


def search(
    pool: Pool,
    settings: RunSettings,
    *,
    projection: Projection | None = None,
    progress: Progress | None = None,
) -> Neighbors | None:
    """Run the neighbor search of `select`, so that it can be stored; None if the method needs none."""
    method = settings.selector(workers=usable_cpus())
    return method.search(pool.embeddings, projection=projection, progress=progress)

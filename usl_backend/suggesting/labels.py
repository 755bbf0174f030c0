"""Join a run's pool with the labels that its project has now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from usl_backend.errors import InputError, RunError
from usl_backend.runs import RunState
from usl_backend.studio.label_config import parse
from usl_backend.studio.labels import read_labels
from usl_backend.studio.written_choices import (
    Choices,
    ChoicesTag,
    WrittenChoices,
    choices_tag,
    names_in,
    offered,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.instances import Pool, Queue
    from usl_backend.runs import Run, RunStore
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import Project


@dataclass(frozen=True)
class RunLabels:
    """The rows of a run and the labels that stand in its project.

    Attributes
    ----------
    run
        The completed run.
    project
        Its project as it is now.
    tag
        The Choices tag that was read.
    pool, queue
        Pool and published queue of the run.
    classes
        Names of the classes; a label is a position here. The label config's classes come first, in its order.
    label : (n,) int64
        Label of each row, -1 where there is none; those of the control set are among them.
    drawn : (c,) int64
        Rows of the control set, labeled or not.
    given : (n,) int64
        As `label`, without control tasks that are not picks: what suggestions are made from.
    alive : (n,) bool
        False for tasks that were deleted since the run.
    accepted : (n,) bool
        Tasks that were annotated by accepting a suggestion: no label, as no person looked at them.
    written
        Class -> choices as an annotator's region has them.
    conflicts
        Task of the pool -> classes that annotators disagree on; such tasks have no label.
    retired
        Class that the label config no longer has -> number of tasks labeled so; such labels do not count.
    several
        Number of tasks that were given several classes at once; such labels do not count.
    outside
        Number of labeled tasks that are not in the pool.
    later
        Number of tasks that are in the project now and were not when the run listed them; deleted ones are not
        counted.
    """

    run: Run
    project: Project
    tag: ChoicesTag
    pool: Pool
    queue: Queue
    classes: tuple[str, ...]
    label: NDArray[np.int64]
    drawn: NDArray[np.int64]
    given: NDArray[np.int64]
    alive: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    written: Mapping[str, Choices]
    conflicts: Mapping[int, tuple[str, ...]]
    retired: Mapping[str, int]
    several: int
    outside: int
    later: int

    @property
    def counts(self) -> dict[str, int]:
        """Labels that suggestions are made from, by class, in the order of `classes`; classes without one too."""
        numbers = np.bincount(self.given[self.given >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, numbers.tolist(), strict=True))

    @property
    def controls(self) -> NDArray[np.int64]:
        """Rows of the control set that have a label."""
        return self.drawn[self.label[self.drawn] >= 0]

    def choices_of(self, label: int) -> Choices:
        """Return a class as a region holds it."""
        name = self.classes[label]
        return self.written.get(name, [name])


def read_run_labels(
    store: RunStore, run: Run, *, client: StudioClient, control: str | None = None
) -> RunLabels:
    """Read the labels that a run's project has now.

    Parameters
    ----------
    store
        Store of the run's artifacts.
    run
        A completed run of a project.
    client
        Label Studio client.
    control
        Name of the Choices tag; required if the label config has several.

    Raises
    ------
    RunError
        The run is not completed, was a dry run, or its pool is not made of a project's tasks.
    InputError
        The project's labels are not one choice per task, or it is another project now.
    StudioError
        Label Studio refuses the request or fails.
    """
    _check_run(run)
    files = store.files(run.id)
    project = client.project(run.project)
    inventory = files.read_inventory()
    if project.key != inventory.key:
        raise InputError(
            f"project {run.project} is not the project of run {run.id}: that one was deleted and its id reused, or "
            "LABEL_STUDIO_URL points to another Label Studio"
        )
    try:
        tag = choices_tag(project.label_config, control=control)
    except InputError as error:
        raise InputError(f"no suggestions for project {project.id}: {error}") from None
    config = parse(project.label_config)
    watcher = WrittenChoices(tag)
    labels = read_labels(watcher.watch(client.labeled(project.id)), config, control=tag.name)
    written = watcher.by_class(config)
    pool, _ = files.read_pool()
    queue = files.read_published().queue
    row = {task: number for number, task in enumerate(pool.ids.tolist())}

    retired: Counter[str] = Counter()
    several = outside = 0
    by_row: dict[int, str] = {}
    for task, chosen in labels.by_task.items():
        if task not in row:
            outside += 1
        elif len(chosen) != 1:
            several += 1
        elif tag.allows(written.get(chosen[0], [chosen[0]])):
            by_row[row[task]] = chosen[0]
        else:
            retired[chosen[0]] += 1
    occurring = sorted(set(by_row.values()))
    named = tag.classes if tag.lists_classes else tuple(name for name in tag.classes if name in occurring)
    classes = (*named, *(name for name in occurring if name not in named))
    place = {name: number for number, name in enumerate(classes)}
    label = np.full(len(pool), -1, dtype=np.int64)
    for number, name in by_row.items():
        label[number] = place[name]
    drawn = np.array([row[task] for task in queue.control_set if task in row], dtype=np.int64)
    picked = {row[task] for task in queue.of_role("pick") if task in row}
    given = label.copy()
    given[[number for number in drawn.tolist() if number not in picked]] = -1
    alive, later = present(client, run, pool, labeled=inventory.labeled, now=project.task_number)
    return RunLabels(
        run=run,
        project=project,
        tag=tag,
        pool=pool,
        queue=queue,
        classes=classes,
        label=label,
        drawn=drawn,
        given=given,
        alive=alive,
        accepted=np.isin(pool.ids, np.fromiter(watcher.accepted, np.int64, len(watcher.accepted))),
        written={name: choices for name, choices in written.items() if name in place},
        conflicts={
            task: tuple("/".join(choice) for choice in choices)
            for task, choices in sorted(labels.conflicts.items())
            if task in row
        },
        retired=dict(sorted(retired.items())),
        several=several,
        outside=outside,
        later=later,
    )


def unoffered(labels: RunLabels, client: StudioClient, label: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the rows whose task does not offer the class in `label`, where choices come from the tasks.

    Parameters
    ----------
    label : (n,) int64
        A class for each row.

    Returns
    -------
    (n,) bool
        All False where the label config lists the choices.
    """
    found = np.zeros(len(label), dtype=bool)
    key = labels.tag.offered_by
    if not key:
        return found
    row = {task: number for number, task in enumerate(labels.pool.ids.tolist())}
    names = [names_in(labels.choices_of(number)) for number in range(len(labels.classes))]
    for task in client.tasks(labels.project.id, data_key=key, only_unlabeled=False):
        number = row.get(task.id)
        if number is not None:
            found[number] = not offered(task.data, key).issuperset(names[int(label[number])])
    return found


def _check_run(run: Run) -> None:
    """Refuse a run without a queue in a project of its own."""
    if run.pool:
        raise RunError(
            f"run {run.id} selected from {run.address}, and only its picks are tasks; suggestions are for runs of a "
            "project, whose tasks they fill in"
        )
    if run.state is not RunState.DONE or run.dry_run:
        what = "a dry run" if run.dry_run else f"{run.state}, not done"
        raise RunError(f"run {run.id} is {what}; suggestions need a completed run")


def present(
    client: StudioClient, run: Run, pool: Pool, *, labeled: Collection[int], now: int
) -> tuple[NDArray[np.bool_], int]:
    """Return which rows still have a task, and how many tasks came after the run.

    Listing tasks is the slowest call, so it is skipped if the project has as many tasks as the run found, and no newer
    one: then none was deleted either.

    Parameters
    ----------
    run, pool
        A completed run of a project, and its pool of n rows.
    labeled
        Annotated tasks that the run listed too.
    now
        Number of tasks in the project.

    Returns
    -------
    (n,) bool and int
        False for deleted tasks; tasks with a higher id than those that the run listed.
    """
    alive: NDArray[np.bool_] = np.ones(len(pool), dtype=bool)
    assert run.summary is not None, "a run that is done has a summary"
    newest = max(int(pool.ids[-1]) if len(pool) else 0, max(pool.skipped, default=0), max(labeled, default=0))
    if now == run.summary.pool.tasks and client.newest_task(run.project) <= newest:
        return alive, 0
    data_key = run.summary.project.data_key
    there = {task.id for task in client.tasks(run.project, data_key=data_key, only_unlabeled=False)}
    alive = np.isin(pool.ids, np.fromiter(there, dtype=np.int64, count=len(there)))
    return alive, sum(task > newest for task in there)

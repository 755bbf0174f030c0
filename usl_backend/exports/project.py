"""From a run and its project to a split. Labels are read by `studio/labels.py`; files are written elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usl_backend.errors import ExportError, InputError
from usl_backend.exports.provenance import Classes, provenance
from usl_backend.exports.split import Row, RowRole, Split, including_labeled
from usl_backend.runs import RunState
from usl_backend.studio.label_config import ControlTag, LabelConfig, parse
from usl_backend.studio.labels import classifier, read_labels

if TYPE_CHECKING:
    from usl_backend.runs import Run, RunFiles, RunStore
    from usl_backend.studio.client import LabeledTask, StudioClient


def exported_run(store: RunStore, project_id: int) -> Run:
    """The run that a project's export goes by: the newest completed one.

    Raises
    ------
    ExportError
        The project has none.
    """
    for run in store.list(project=project_id, state=RunState.DONE):
        if not run.dry_run and store.files(run.id).has_pool():
            return run
    raise ExportError(
        f"project {project_id} has no completed run in data directory {store.directory}; select first "
        f"(`usl-backend select {project_id}`), or set MODEL_DIR to the directory its runs are in"
    )


def refuse_unlabeled(run: Run) -> None:
    """Refuse a run whose picks nobody can have labeled.

    Raises
    ------
    ExportError
        It is not completed, a dry run, or its picks are in no project.
    """
    if run.state is not RunState.DONE or run.dry_run:
        what = "a dry run" if run.dry_run else f"{run.state}, not done"
        raise ExportError(f"run {run.id} is {what}; export a completed run")
    if run.published_to is None:
        raise ExportError(
            f"the picks of run {run.id} were not imported into a project, so nobody could label them; select again "
            "with --import-to PROJECT"
        )


def project_split(
    store: RunStore,
    run: Run,
    *,
    client: StudioClient,
    control: str | None = None,
    include_labeled: bool = False,
) -> Split:
    """Read the project's labels and lay them over the run's pool.

    Rows are all readable tasks of the run's pool and all labeled tasks outside it, by task id; their position is
    the index that every file of the export counts in. Tasks whose annotators disagree are in neither part.

    Parameters
    ----------
    store
        Holds the run's artifacts.
    run
        A completed run.
    client
        Door to Label Studio.
    control
        Name of the Choices tag to read; needed where the label config has several.
    include_labeled
        List the labeled rows among the unlabeled ones too.

    Returns
    -------
    Split
        With its manifest.

    Raises
    ------
    ExportError
        The run is not completed, or the project asks for something else than one choice per task.
    StudioError
        Label Studio refuses or fails.
    """
    files = store.files(run.id)
    refuse_unlabeled(run)
    where = _where(files, run)
    project = client.project(where.project)
    if project.key != where.key:
        raise ExportError(
            f"project {where.project} is another one than run {run.id} was made for (it was deleted and its number "
            "given again, or LABEL_STUDIO_URL leads elsewhere); export a run of the present project"
        )
    config = parse(project.label_config)
    asked = _single_choice(config, control)
    told = _Told(client.labeled(where.project), where)
    labels = Classes(read_labels(told, config, control=asked.name))
    deleted: frozenset[int] = frozenset()
    if where.rows is None:
        deleted = _deleted(files, client, run, now=project.task_number)
    else:  # who deletes such a task does not delete what it shows
        labels.add(_own_labels(files, run))
    rows = _rows(files, labels, told.sources, deleted)
    labeled = tuple(row for row in rows if row.label is not None)
    unlabeled = tuple(row for row in rows if row.label is None and row.task not in labels.conflicts)
    # A choice that was taken out of the label config since is still somebody's answer.
    gone = sorted({str(row.label) for row in labeled} - set(asked.classes))
    return Split(
        labeled=labeled,
        unlabeled=including_labeled(unlabeled, labeled) if include_labeled else unlabeled,
        classes=(*asked.classes, *gone),
        disputed=tuple(row for row in rows if row.label is None and row.task in labels.conflicts),
        manifest=provenance(
            run,
            rows,
            labels,
            told.cancelled,
            include_labeled=include_labeled,
            control_set=files.read_published().queue.control_set,
            deleted=sorted(deleted),
            retired=gone,
        ),
    )


@dataclass(frozen=True)
class _Where:
    """The project in which a run's labels are given.

    Attributes
    ----------
    project, key
        Label Studio's id, and with creation time.
    data_key
        Field of a task's data that holds the media.
    rows
        Task id -> row of a pool outside Label Studio whose picks became tasks; None where tasks are the pool.
    """

    project: int
    key: str
    data_key: str
    rows: Mapping[int, int] | None


def _where(files: RunFiles, run: Run) -> _Where:
    """Find the project that a run's labels are in."""
    project = run.published_to
    assert project is not None, "a run that was published has a project"
    rows = None
    if run.pool:
        places = files.read_published().queue.places
        rows = {place.task: place.instance for place in places if place.task is not None}
    return _Where(project.id, project.key, project.data_key, rows)


def _own_labels(files: RunFiles, run: Run) -> dict[int, str]:
    """Row -> class that a manifest brought with it, as far as the run looked at labels."""
    if not run.settings.get("keep_labels"):
        return {}
    return {row.row: row.label for row in files.read_rows() if row.label is not None}


class _Told:
    """Tasks as they pass, and what is noted of them on the way: what they show, and annotations that were skipped.

    Of a pool outside Label Studio only its own tasks pass, and by their rows.
    """

    def __init__(self, tasks: Iterable[LabeledTask], where: _Where) -> None:
        self.sources: dict[int, str] = {}
        self.cancelled = 0
        self._tasks = tasks
        self._where = where

    def __iter__(self) -> Iterator[LabeledTask]:
        rows = self._where.rows
        for told in self._tasks:
            if rows is not None and told.id not in rows:
                continue
            task = told if rows is None else replace(told, id=rows[told.id])
            self.sources[task.id] = str(task.data.get(self._where.data_key) or "")
            self.cancelled += sum(bool(entry.get("was_cancelled")) for entry in task.annotations)
            yield task


def _single_choice(config: LabelConfig, control: str | None) -> ControlTag:
    """The Choices tag whose one answer is a task's class."""
    try:
        tag = classifier(config, control)
    except InputError as error:
        raise ExportError(str(error)) from None
    if tag.multiple:
        raise ExportError(
            f"Choices {tag.name!r} takes several choices per task, but exports are for one class per task; export "
            "this project from Label Studio itself"
        )
    return tag


def _deleted(files: RunFiles, client: StudioClient, run: Run, *, now: int) -> frozenset[int]:
    """Tasks that the run read and that are no longer in the project.

    Listing tasks is the longest call of all, so it is left out where the project still has as many as the run found.
    """
    assert run.summary is not None, "a run that is done has a summary"
    if now == run.summary.pool.tasks:
        return frozenset()
    data_key = run.summary.project.data_key
    there = {task.id for task in client.tasks(run.project, data_key=data_key, only_unlabeled=False)}
    return frozenset(set(files.read_pool()[0].ids.tolist()) - there)


def _rows(
    files: RunFiles, labels: Classes, sources: Mapping[int, str], deleted: frozenset[int]
) -> tuple[Row, ...]:
    """Readable tasks of the pool that still exist and labeled or disputed tasks outside it, by id."""
    instances = files.read_instances()
    pool, _ = files.read_pool()
    queued = {place.instance: place for place in files.read_published().queue.places}
    inside = set(pool.ids.tolist()) - deleted
    known = {instance.id: instance.source for instance in instances if instance.id in inside}
    outside = {task: sources[task] for task in (*labels.by_task, *labels.conflicts) if task not in inside}
    keys = {row.row: row.key for row in files.read_rows() if row.row in inside}
    rows = []
    for index, task in enumerate(sorted([*known, *outside])):
        place = queued.get(task)
        role: RowRole = "outside" if task in outside else place.role if place else "pool"
        rank = place.rank if place else None
        source, label = known.get(task) or outside[task], labels.by_task.get(task)
        rows.append(Row(index, task, source, role, rank, label, key=keys.get(task)))
    return tuple(rows)

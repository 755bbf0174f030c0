"""Construction of a split from a run and its project's labels, which `studio/labels.py` reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usl_backend.errors import ExportError, InputError, MediaError
from usl_backend.exports.origins import Origins
from usl_backend.exports.provenance import Classes, provenance
from usl_backend.exports.split import Row, Split, including_labeled
from usl_backend.exports.spool import AnnotationSpool
from usl_backend.exports.usable import holds_of
from usl_backend.runs import RunState
from usl_backend.studio.fields import Field, field_named
from usl_backend.studio.label_config import ControlTag, LabelConfig, parse
from usl_backend.studio.labels import (
    classifier,
    kinds_of,
    read_annotated,
    read_labels,
    standing_annotations,
)
from usl_backend.suggesting.labels import present

if TYPE_CHECKING:
    from usl_backend.runs import Run, RunFiles, RunStore
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import LabeledTask


def exported_run(store: RunStore, project_id: int) -> Run:
    """Return the run to export for a project: the newest completed one.

    Raises
    ------
    ExportError
        The project has no completed run.
    """
    completed = store.list(project=project_id, state=RunState.DONE)
    for run in completed:
        if not run.dry_run and store.files(run.id).has_pool():
            return run
    if completed and all(run.dry_run for run in completed):
        raise ExportError(
            f"project {project_id} has only dry runs, such as {completed[0].id}, which queue nothing to label; run "
            f"`usl-backend select {project_id}` without --dry-run first"
        )
    raise ExportError(
        f"project {project_id} has no completed run in data directory {store.directory}; run "
        f"`usl-backend select {project_id}` first, or set MODEL_DIR to the directory that has its runs"
    )


def refuse_unlabeled(run: Run) -> None:
    """Refuse a run whose picks cannot have labels.

    Raises
    ------
    ExportError
        The run is not completed, is a dry run, or its picks were not imported into a project.
    """
    if run.state is not RunState.DONE or run.dry_run:
        what = "a dry run" if run.dry_run else f"{run.state}, not done"
        raise ExportError(f"run {run.id} is {what}; export a completed run")
    if run.published_to is None:
        raise ExportError(
            f"the picks of run {run.id} were not imported into a project, so they have no labels; select again with "
            "--import-to PROJECT"
        )


def project_split(
    store: RunStore,
    run: Run,
    *,
    client: StudioClient,
    control: str | None = None,
    include_labeled: bool = False,
) -> Split:
    """Join the project's labels with the run's pool.

    Rows are all readable tasks of the run's pool and all labeled tasks outside it, sorted by task id; their position
    is the row index in all files of the export. Tasks whose annotators disagree are in neither part. Where nothing
    classifies the whole task, annotated tasks are the labeled ones, and their annotations go out as they are.

    Parameters
    ----------
    store
        Store of the run's artifacts.
    run
        A completed run.
    client
        Label Studio client.
    control
        Name of the Choices or Taxonomy tag to read; required if the label config has several Choices.
    include_labeled
        List the labeled rows among the unlabeled ones too.

    Returns
    -------
    Split
        The split with its manifest.

    Raises
    ------
    ExportError
        The run is not completed, or it is not clear which tag to read.
    StudioError
        Label Studio refuses the request or fails.
    """
    files = store.files(run.id)
    refuse_unlabeled(run)
    labeled_in = _labeled_project(files, run)
    project = client.project(labeled_in.project)
    if project.key != labeled_in.key:
        raise ExportError(
            f"project {labeled_in.project} is not the project of run {run.id}: that one was deleted and its id reused, "
            "or LABEL_STUDIO_URL points to another Label Studio; export a run of the current project"
        )
    config = parse(project.label_config)
    asked = _classifier(config, control)
    embedded = files.read_inventory().fields[0]
    if labeled_in.rows is None:
        shown = field_named(config, labeled_in.data_key, embedded.modality, in_files=embedded.in_files)
    else:  # a list of PDFs is imported as files, whatever is embedded of them
        shown = field_named(config, labeled_in.data_key, embedded.holds)
    spool = AnnotationSpool() if asked is None or len(config.controls) > 1 else None
    tasks = _TaskReader(client.labeled(labeled_in.project), labeled_in, shown, spool)
    read = read_annotated(tasks) if asked is None else read_labels(tasks, config, control=asked.name)
    labels = Classes(read, several=asked is not None and asked.multiple)
    deleted: frozenset[int] = frozenset()
    if labeled_in.rows is None:
        deleted = _deleted(files, client, run, now=project.task_number)
    else:  # deleting an imported task does not delete its file
        labels.add(_own_labels(files, run))
    rows = _rows(files, labels, tasks.sources, deleted, Origins(store, run))
    labeled = tuple(row for row in rows if row.task in labels.by_task)
    rest = tuple(row for row in rows if row.task not in labels.by_task)
    unlabeled = tuple(row for row in rest if row.task not in labels.conflicts)
    named = () if asked is None else asked.classes
    # Choices that tasks bring along, and those that have since been removed from the label config.
    others = sorted({name for row in labeled for name in row.labels} - set(named))
    return Split(
        labeled=labeled,
        unlabeled=including_labeled(unlabeled, labeled) if include_labeled else unlabeled,
        classes=(*named, *others),
        disputed=tuple(row for row in rest if row.task in labels.conflicts),
        holds=holds_of(asked),
        annotations=spool,
        modality=embedded.holds,
        manifest=provenance(
            run,
            rows,
            labels,
            tasks.cancelled,
            include_labeled=include_labeled,
            control_set=files.read_published().queue.control_set,
            deleted=sorted(deleted),
            retired=[] if asked is None or asked.open else others,
            asks_for=kinds_of(config.controls),
        ),
    )


@dataclass(frozen=True)
class _LabeledProject:
    """The project that contains a run's labels; `rows` maps imported tasks to pool rows, None for a project's run."""

    project: int
    key: str
    data_key: str
    rows: Mapping[int, int] | None


def _labeled_project(files: RunFiles, run: Run) -> _LabeledProject:
    """Return the project that contains a run's labels."""
    project = run.published_to
    assert project is not None, "a run that was published has a project"
    rows = None
    if run.pool:
        places = files.read_published().queue.places
        rows = {place.task: place.instance for place in places if place.task is not None}
    return _LabeledProject(project.id, project.key, project.data_key, rows)


def _own_labels(files: RunFiles, run: Run) -> dict[int, str]:
    """Return row -> class given by the manifest, if the run used its labels."""
    if not run.settings.get("keep_labels"):
        return {}
    return {row.row: row.label for row in files.read_rows() if row.label is not None}


class _TaskReader:
    """Yields tasks while recording their sources and annotations and counting skipped ones.

    For a pool outside Label Studio it yields only the imported tasks, with their rows as ids.
    """

    def __init__(
        self,
        tasks: Iterable[LabeledTask],
        project: _LabeledProject,
        shown: Field,
        spool: AnnotationSpool | None,
    ) -> None:
        self.sources: dict[int, tuple[str, ...]] = {}
        self._field, self._spool = shown, spool
        self.cancelled = 0
        self._tasks = tasks
        self._project = project

    def __iter__(self) -> Iterator[LabeledTask]:
        rows = self._project.rows
        for read in self._tasks:
            if rows is not None and read.id not in rows:
                continue
            task = read if rows is None else replace(read, id=rows[read.id])
            try:
                self.sources[task.id] = self._field.sources(task.data)
            except MediaError:
                self.sources[task.id] = ("",)
            self.cancelled += sum(bool(entry.get("was_cancelled")) for entry in task.annotations)
            if self._spool is not None:
                self._spool.add(task.id, standing_annotations(task))
            yield task


def _classifier(config: LabelConfig, control: str | None) -> ControlTag | None:
    """Return the tag whose choices are a task's classes; None if nothing classifies the whole task."""
    if control is None and not config.classifiers:
        return None
    try:
        return classifier(config, control)
    except InputError as error:
        raise ExportError(str(error)) from None


def _deleted(files: RunFiles, client: StudioClient, run: Run, *, now: int) -> frozenset[int]:
    """Return the tasks of the run's pool that are no longer in the project."""
    pool, _ = files.read_pool()
    alive, _ = present(client, run, pool, labeled=files.read_inventory().labeled, now=now)
    return frozenset(pool.ids[~alive].tolist())


def _rows(
    files: RunFiles,
    labels: Classes,
    sources: Mapping[int, tuple[str, ...]],
    deleted: frozenset[int],
    origins: Origins,
) -> tuple[Row, ...]:
    """Return existing readable tasks of the pool and labeled or disputed tasks outside it, sorted by id."""
    instances = files.read_instances()
    pool, _ = files.read_pool()
    inside = set(pool.ids.tolist()) - deleted
    known = {instance.id: instance.sources for instance in instances if instance.id in inside}
    outside = {task: sources[task] for task in (*labels.by_task, *labels.conflicts) if task not in inside}
    keys = {row.row: row.key for row in files.read_rows() if row.row in inside}
    rows = []
    for index, task in enumerate(sorted([*known, *outside])):
        classes = labels.by_task.get(task, ())
        labeled = task in labels.by_task or task in labels.conflicts
        origin = origins.of(task, labeled=labeled, outside=task in outside)
        source, *more = known.get(task) or outside[task]
        rows.append(
            Row(
                index,
                task,
                source,
                origin.role,
                origin.rank,
                classes[0] if len(classes) == 1 else None,
                key=keys.get(task),
                more=tuple(more),
                labels=classes,
                run=origin.run,
            )
        )
    return tuple(rows)

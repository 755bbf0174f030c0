"""Label, annotator and status of a run's tasks, which the map colors; read from Label Studio, kept with the report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from usl_backend.errors import InputError
from usl_backend.report.record import FOLDER, folder
from usl_backend.runs.artifacts import atomic_write
from usl_backend.studio.annotated import annotator_names
from usl_backend.studio.label_config import parse
from usl_backend.studio.labels import annotator_of, read_labels, standing_annotations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from usl_backend.instances import Queue
    from usl_backend.runs import Run, RunFiles
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import LabeledTask

NAME: Final = "states.json"
STATUSES: Final = ("pick", "control", "reserve", "labeled", "waiting")
"""A task that is labeled is no longer a pick to label; the others wait."""
DISAGREE: Final = "annotators disagree"
SEVERAL: Final = "several people"


@dataclass(frozen=True)
class Coded:
    """One class per task.

    Attributes
    ----------
    names
        Names of the classes.
    codes
        Instance id -> position in `names`.
    otherwise
        Position for all other instances; -1 for none.
    """

    names: tuple[str, ...]
    codes: Mapping[int, int] = field(default_factory=dict)
    otherwise: int = -1


@dataclass(frozen=True)
class TaskStates:
    """What is known of a run's tasks.

    Attributes
    ----------
    status
        One of `STATUSES` per task.
    label, annotator
        Class by majority vote, and who labeled; None if they cannot be read.
    read_at
        Unix seconds at which Label Studio was asked; 0 if it was not.
    note
        What is missing and why, or "".
    """

    status: Coded
    label: Coded | None = None
    annotator: Coded | None = None
    read_at: float = 0.0
    note: str = ""

    @property
    def labels(self) -> dict[int, str]:
        """Instance id -> class of the tasks that have one."""
        return (
            {}
            if self.label is None
            else {task: self.label.names[code] for task, code in self.label.codes.items()}
        )


def queued(queue: Queue, *, note: str = "") -> TaskStates:
    """Return the states that the published queue alone tells."""
    places = {place.instance: STATUSES.index(place.role) for place in queue.places}
    return TaskStates(Coded(STATUSES, places, STATUSES.index("waiting")), note=note)


def states_of(
    queue: Queue,
    labeled: Iterable[LabeledTask],
    *,
    label_config: str,
    names: Mapping[int, str],
    read_at: float,
) -> TaskStates:
    """Combine the queue with the annotations of its project.

    Parameters
    ----------
    queue
        The published queue.
    labeled
        Annotated tasks; streamed.
    label_config
        XML.
    names
        User id -> name.
    read_at
        Unix seconds at which the tasks were read.

    Returns
    -------
    TaskStates
        `label` is None for a label config without one choice per task.
    """
    people: dict[int, tuple[int, ...]] = {}

    def noted() -> Iterator[LabeledTask]:
        for task in labeled:
            if standing := standing_annotations(task):
                found = set(map(annotator_of, standing))
                people[task.id] = tuple(who for who in found if who is not None)
            yield task

    stream, note, label = noted(), "", None
    try:
        read = read_labels(stream, parse(label_config))
    except InputError as error:
        note = f"No colors by label: {error}."
    else:
        chosen = {task: ", ".join(choice) for task, choice in read.by_task.items()}
        chosen.update(dict.fromkeys(read.conflicts, DISAGREE))
        label = _coded(chosen, first=read.classes)
    for _ in stream:  # what a refused label config left unread
        pass
    called = {
        task: SEVERAL if len(who) > 1 else names.get(who[0]) or f"user {who[0]}" if who else "imported"
        for task, who in people.items()
    }
    base = queued(queue).status
    status = Coded(
        STATUSES, {**base.codes, **dict.fromkeys(people, STATUSES.index("labeled"))}, base.otherwise
    )
    return TaskStates(status, label, _coded(called), read_at, note)


def read_states(run: Run, files: RunFiles, client: StudioClient) -> TaskStates:
    """Read the states of a project's run from Label Studio, and keep them with the report.

    Raises
    ------
    InputError
        The project is another one now.
    StudioError
        Label Studio refuses the request or fails.
    """
    project = client.project(run.project)
    if run.project_key and project.key != run.project_key:
        raise InputError(f"project {run.project} was deleted, and another project now has its id")
    found = states_of(
        files.read_published().queue,
        client.labeled(run.project),
        label_config=project.label_config,
        names=annotator_names(client),
        read_at=time.time(),
    )
    save_states(files, found)
    return found


def save_states(files: RunFiles, states: TaskStates) -> None:
    """Keep states with the report."""
    with atomic_write(folder(files) / NAME) as stream:
        stream.write(_ADAPTER.dump_json(states))


def known_states(files: RunFiles, *, note: str = "") -> TaskStates:
    """Return the states read last, else those that the queue alone tells."""
    try:
        return _ADAPTER.validate_json((files.directory / FOLDER / NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return queued(files.read_published().queue, note=note) if files.has_published() else NOTHING


_ADAPTER: TypeAdapter[TaskStates] = TypeAdapter(TaskStates)
NOTHING: Final = TaskStates(Coded(STATUSES, {}, STATUSES.index("waiting")))
"""States of a run that has published nothing."""


def _coded(values: Mapping[int, str], *, first: tuple[str, ...] = ()) -> Coded:
    """Number the classes of tasks; those in `first` come first."""
    names = (*first, *sorted(set(values.values()) - set(first)))
    place = {name: index for index, name in enumerate(names)}
    return Coded(names, {task: place[name] for task, name in values.items()})

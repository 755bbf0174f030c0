"""What is known of the labeling of a project; `counting.py` counts, `reading.py` asks Label Studio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class RoleCount:
    """Tasks of one role.

    Attributes
    ----------
    labeled
        Tasks that a person has submitted.
    total
        All tasks of the role that Label Studio still has, as far as is known.
    skipped
        Tasks that were only skipped.
    """

    labeled: int = 0
    total: int = 0
    skipped: int = 0

    @property
    def left(self) -> int:
        """Tasks that nobody has submitted or skipped."""
        return max(0, self.total - self.labeled - self.skipped)


@dataclass(frozen=True, slots=True)
class AnnotatorCount:
    """Labels of one person.

    Attributes
    ----------
    id, name
        Label Studio's user; the name is "user 3" if it is not known.
    labeled
        Tasks that the person has submitted.
    last
        Unix seconds of the newest submission.
    """

    id: int
    name: str
    labeled: int
    last: float


@dataclass(frozen=True, slots=True)
class ClassCount:
    """Labeled tasks of a class; a task counts once, by the vote of its annotators."""

    name: str
    labeled: int


@dataclass(frozen=True, slots=True)
class Pace:
    """Speed of labeling.

    Attributes
    ----------
    last_hour
        Tasks submitted within the last hour.
    per_hour
        Speed over that hour, or since its first label where that is shorter; None without a label in it.
    seconds_left
        Seconds until the picks and the control set are labeled at that speed; None without one.
    """

    last_hour: int = 0
    per_hour: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class CoverageNow:
    """Share of the pool within reach of labeled picks.

    Attributes
    ----------
    now
        Share reached by the picks that are labeled, 0 to 1; exact if they are the first ones, else at least this.
    picks, random
        Share that all picks reach, and that as many random tasks reach on average.
    labeled
        Number of picks that are labeled.
    """

    now: float
    picks: float
    random: float
    labeled: int


@dataclass(frozen=True, slots=True)
class QueueNow:
    """The queue of a project.

    Attributes
    ----------
    run
        The run that published it last; "" if none did.
    in_force
        True if Label Studio serves it whole and in order.
    published
        Unix seconds at which the run ended; None without one.
    kind, detail, remedy
        As in `sinks.standing.Standing`, which `doctor` shows.
    tab
        Address of its tab in Label Studio; "" without one.
    """

    run: str = ""
    in_force: bool = False
    published: float | None = None
    kind: str = "none"
    detail: str = ""
    remedy: str = ""
    tab: str = ""


@dataclass(frozen=True, slots=True)
class AccuracyNow:
    """What suggestions from the labels are worth, as measured last on the control set.

    Attributes
    ----------
    right, low, high
        Share of the suggestions that are right, with its 95 % interval, 0 to 1.
    controls, labels
        Control labels it was measured on, and labels the suggestions were made from.
    read_at
        Unix seconds at which the labels were read.
    """

    right: float
    low: float
    high: float
    controls: int
    labels: int
    read_at: float


@dataclass(frozen=True)
class LabelingState:
    """How the labeling of a project goes.

    Attributes
    ----------
    project, title, tasks
        Label Studio's id, title and number of tasks.
    queue
        The queue in force.
    labeled
        Counts by role: "pick", "control", "reserve" and "other".
    annotators
        People with labels, the most labels first.
    classes
        Classes of the label config in its order, then others; empty where no tag classifies the whole task.
    disputed, accepted
        Tasks whose annotators disagree, and tasks annotated by accepting a suggestion only.
    pace, coverage, accuracy
        See their types; None if not known.
    waiting
        Tasks that came after the run and are not queued.
    suggested
        Unix seconds of the last suggestions; None if there were none.
    active
        Run of the project that is queued or running; "" if there is none.
    next
        What to do next, in one sentence.
    notes
        What could not be read and why, one sentence each.
    """

    project: int
    title: str = ""
    tasks: int = 0
    queue: QueueNow = QueueNow()
    labeled: Mapping[str, RoleCount] = field(default_factory=dict)
    annotators: tuple[AnnotatorCount, ...] = ()
    classes: tuple[ClassCount, ...] = ()
    disputed: int = 0
    accepted: int = 0
    pace: Pace = Pace()
    coverage: CoverageNow | None = None
    accuracy: AccuracyNow | None = None
    waiting: int = 0
    suggested: float | None = None
    active: str = ""
    next: str = ""
    notes: tuple[str, ...] = ()

    @property
    def total_labeled(self) -> int:
        """Tasks that people have submitted, of any role."""
        return sum(count.labeled for count in self.labeled.values())

    def to_json(self) -> dict[str, Any]:
        """Return one JSON object."""
        made: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return made


_ADAPTER: TypeAdapter[LabelingState] = TypeAdapter(LabelingState)

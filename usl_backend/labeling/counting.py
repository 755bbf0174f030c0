"""Count the labels of a project by role, annotator and class, and say how fast they come; no requests are made here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from usl_backend.errors import InputError
from usl_backend.labeling.state import AnnotatorCount, ClassCount, CoverageNow, Pace, RoleCount
from usl_backend.studio.label_config import parse
from usl_backend.studio.labels import annotator_of, read_labels, standing_annotations
from usl_backend.studio.preannotations import is_accepted_suggestion

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from usl_backend.instances import Queue
    from usl_backend.studio.records import LabeledTask

HOUR: Final = 3600.0
_SHORTEST: Final = 60.0
"""Seconds over which a speed is averaged at least."""
ROLES: Final = ("pick", "control", "reserve", "other")


@dataclass(frozen=True)
class Tasks:
    """Annotated tasks by what became of them.

    Attributes
    ----------
    labeled
        Tasks that a person has submitted.
    skipped
        Tasks that were only skipped.
    accepted
        Tasks annotated by accepting a suggestion, which no person has looked at.
    """

    labeled: frozenset[int]
    skipped: frozenset[int]
    accepted: frozenset[int]


def sort_tasks(tasks: Iterable[LabeledTask]) -> Tasks:
    """Tell submitted tasks from those that were skipped or accepted only."""
    labeled, skipped, accepted = set(), set(), set()
    for task in tasks:
        if standing_annotations(task):
            labeled.add(task.id)
        elif task.annotations and all(map(is_accepted_suggestion, task.annotations)):
            accepted.add(task.id)
        elif task.annotations:
            skipped.add(task.id)
    return Tasks(frozenset(labeled), frozenset(skipped), frozenset(accepted))


def by_role(
    queue: Queue | None, found: Tasks, *, total: int, gone: Collection[int] = ()
) -> dict[str, RoleCount]:
    """Count the tasks of each role of a queue; those outside of it are "other".

    Parameters
    ----------
    queue
        The published queue; None if there is none.
    total
        Number of tasks in the project.
    gone
        Tasks of the queue that were deleted since.
    """
    roles: dict[int, str] = {}
    if queue is not None:
        places = zip(queue.tasks, queue.places, strict=True)
        roles = {task: place.role for task, place in places if task not in gone}
    sizes = Counter(roles.values())
    labeled = Counter(roles.get(task, "other") for task in found.labeled)
    skipped = Counter(roles.get(task, "other") for task in found.skipped)
    sizes["other"] = max(total - len(roles), labeled["other"] + skipped["other"])
    return {role: RoleCount(labeled[role], sizes[role], skipped[role]) for role in ROLES}


def by_annotator(tasks: Iterable[LabeledTask], names: Mapping[int, str]) -> tuple[AnnotatorCount, ...]:
    """Count the tasks that each person has submitted, the most first.

    Parameters
    ----------
    names
        User id -> name.
    """
    counted: Counter[int] = Counter()
    last: dict[int, float] = {}
    for task in tasks:
        for who, at in _submissions(task).items():
            counted[who] += 1
            last[who] = max(last.get(who, 0.0), at)
    ordered = sorted(counted, key=lambda who: (-counted[who], who))
    return tuple(
        AnnotatorCount(who, names.get(who) or f"user {who}", counted[who], last[who]) for who in ordered
    )


def by_class(tasks: Iterable[LabeledTask], label_config: str) -> tuple[tuple[ClassCount, ...], int, str]:
    """Count the labeled tasks of each class.

    Returns
    -------
    classes, disputed, reason
        The classes, the number of tasks whose annotators disagree, and why there are no classes, or "".
    """
    try:
        labels = read_labels(tasks, parse(label_config))
    except InputError as error:
        return (), 0, str(error)
    counted: Counter[str] = Counter(name for chosen in labels.by_task.values() for name in chosen)
    others = sorted(set(counted) - set(labels.classes))
    classes = tuple(ClassCount(name, counted[name]) for name in (*labels.classes, *others))
    return classes, len(labels.conflicts), ""


def pace(tasks: Iterable[LabeledTask], *, left: int, now: float) -> Pace:
    """Say how fast labels come and how long the rest takes.

    Parameters
    ----------
    left
        Tasks still to label.
    now
        Unix seconds.
    """
    times = [at for task in tasks if (at := max(_submissions(task).values(), default=0.0))]
    now = max([now, *times])  # Label Studio's clock may be ahead
    recent = [at for at in times if at > now - HOUR]
    if not recent:
        return Pace()
    per_hour = len(recent) * HOUR / max(now - min(recent), _SHORTEST)
    # Rounded, so that a state in which nothing happens stays the same for a while.
    return Pace(len(recent), round(per_hour, 1), 60.0 * round(left * HOUR / per_hour / 60))


def coverage_now(
    picks: Sequence[int],
    found: Collection[int],
    *,
    covered: Mapping[int, float],
    curve: Sequence[float],
    random: Sequence[float],
) -> CoverageNow | None:
    """Say how much of the pool the labeled picks reach.

    Parameters
    ----------
    picks
        Tasks in pick order.
    found
        Labeled tasks.
    covered
        Task -> share of the pool that it reaches first in pick order.
    curve, random
        Share reached after 1..m picks, by the run's and by random ones.
    """
    if not curve or not random:
        return None
    before = curve[0] - covered.get(picks[0], 0.0) if picks else 0.0
    labeled = [task for task in picks if task in found]
    now = max(0.0, before) + sum(covered.get(task, 0.0) for task in labeled)
    return CoverageNow(min(now, curve[-1]), curve[-1], random[-1], len(labeled))


def _submissions(task: LabeledTask) -> dict[int, float]:
    """Return who has submitted a task, and when last; 0 stands for an annotation without an annotator."""
    found: dict[int, float] = {}
    for entry in standing_annotations(task):
        who = annotator_of(entry) or 0
        found[who] = max(found.get(who, 0.0), _seconds(entry.get("created_at")))
    return found


def _seconds(stamp: object) -> float:
    """Return the Unix seconds of a time of Label Studio; 0 if there is none."""
    try:
        return datetime.fromisoformat(str(stamp)).timestamp()
    except ValueError:
        return 0.0

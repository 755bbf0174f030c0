"""Reduce the annotations of each task to one class (or set of classes) by majority vote; `exports/` writes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usl_backend.errors import InputError
from usl_backend.studio.preannotations import is_accepted_suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from usl_backend.studio.label_config import ControlTag, LabelConfig
    from usl_backend.studio.records import LabeledTask

Choice = tuple[str, ...]
"""Classes chosen for one task, in the order of the label config; a single one unless the control allows several.

A choice within others is their path, such as `animal/cat`.
"""


@dataclass(frozen=True)
class Labels:
    """Majority labels of annotated tasks.

    Attributes
    ----------
    control
        Name of the Choices or Taxonomy tag that was read; "" if none classifies the whole task.
    classes
        Classes of that tag, in the order of the label config.
    by_task
        Task id -> winning choice; () for an annotated task where no tag classifies the whole task.
    conflicts
        Task id -> choices tied for most votes; such tasks are not in `by_task`.
    skipped
        Tasks with skips only.
    empty
        Tasks submitted without a class of this control.
    ground_truth
        Number of tasks labeled by an annotation marked as ground truth.
    """

    control: str
    classes: tuple[str, ...]
    by_task: Mapping[int, Choice]
    conflicts: Mapping[int, tuple[Choice, ...]]
    skipped: tuple[int, ...]
    empty: tuple[int, ...]
    ground_truth: int

    @property
    def counts(self) -> dict[str, int]:
        """Number of tasks per outcome."""
        return {
            "labeled": len(self.by_task),
            "conflicts": len(self.conflicts),
            "skipped": len(self.skipped),
            "empty": len(self.empty),
            "ground_truth": self.ground_truth,
        }


def classifier(config: LabelConfig, control: str | None = None) -> ControlTag:
    """Return the Choices tag to read labels from, or the Taxonomy of a label config without Choices.

    Parameters
    ----------
    control
        Name of the tag; required if several Choices classify the whole task.

    Raises
    ------
    InputError
        There is no such tag, or there are several and `control` is None.
    """
    found = config.classifiers
    names = ", ".join(tag.name for tag in found)
    if control is not None:
        for tag in found:
            if tag.name == control:
                return tag
        raise InputError(
            f"control is {control!r}, but the Choices of the label config are: {names or 'none'}"
        )
    if not found:
        if repeated := next((tag.name for tag in config.controls if tag.repeated), None):
            raise InputError(
                f"{repeated!r} lies in a Repeater, so a task has a class per item instead of one"
            )
        raise InputError(
            f"classes are read from Choices or Taxonomy, but the label config asks for {kinds_of(config.controls)}"
        )
    first = [tag for tag in found if tag.type == found[0].type]
    if len(first) > 1:
        names = ", ".join(tag.name for tag in first)
        raise InputError(
            f"the label config has several {first[0].type} ({names}); choose one, such as {first[0].name}"
        )
    return first[0]


def kinds_of(controls: Iterable[ControlTag]) -> str:
    """List the types of control tags, each once; "nothing" without any."""
    names = (
        f"{tag.type} per {'item' if tag.repeated else 'region'}"
        if tag.repeated or tag.per_region
        else tag.type
        for tag in controls
    )
    return ", ".join(dict.fromkeys(names)) or "nothing"


def read_labels(labeled: Iterable[LabeledTask], config: LabelConfig, *, control: str | None = None) -> Labels:
    """Reduce annotations to one choice per task.

    An annotation marked as ground truth decides; otherwise each annotator's newest annotation is one vote and the
    majority wins. Skips and annotations without a class of this control do not count. Ties are reported as
    conflicts. Tasks that were annotated by accepting suggestions alone are passed over: no person looked at them.

    Parameters
    ----------
    labeled
        Tasks with their annotations; streamed.
    control
        Name of the Choices tag; required if several Choices classify the whole task.

    Returns
    -------
    Labels
        Each other task is in exactly one of `by_task`, `conflicts`, `skipped` and `empty`.

    Raises
    ------
    InputError
        The label config has no such Choices.
    """
    tag = classifier(config, control)
    by_task: dict[int, Choice] = {}
    conflicts: dict[int, tuple[Choice, ...]] = {}
    skipped: list[int] = []
    empty: list[int] = []
    ground_truth = 0
    for task in labeled:
        if task.annotations and all(map(is_accepted_suggestion, task.annotations)):
            continue
        standing = standing_annotations(task)
        if not standing:
            skipped.append(task.id)
            continue
        true = [entry for entry in standing if entry.get("ground_truth") and _choice(entry, tag)]
        votes = _votes(true or standing, tag)
        most = max(votes.values(), default=0)
        winners = sorted(choice for choice, count in votes.items() if count == most)
        if not winners:
            empty.append(task.id)
        elif len(winners) > 1:
            conflicts[task.id] = tuple(winners)
        else:
            by_task[task.id] = winners[0]
            ground_truth += bool(true)
    return Labels(
        tag.name, tag.classes, by_task, conflicts, tuple(sorted(skipped)), tuple(sorted(empty)), ground_truth
    )


def read_annotated(labeled: Iterable[LabeledTask]) -> Labels:
    """Find the annotated tasks of a project in which no tag classifies the whole task.

    Parameters
    ----------
    labeled
        Tasks with their annotations; streamed.

    Returns
    -------
    Labels
        Each task is in `by_task`, without a class, or in `skipped`; an annotation without any result counts, because
        it says that there is nothing to mark.
    """
    by_task: dict[int, Choice] = {}
    skipped: list[int] = []
    ground_truth = 0
    for task in labeled:
        standing = standing_annotations(task)
        if standing:
            by_task[task.id] = ()
            ground_truth += any(entry.get("ground_truth") for entry in standing)
        else:
            skipped.append(task.id)
    return Labels("", (), by_task, {}, tuple(sorted(skipped)), (), ground_truth)


def standing_annotations(task: LabeledTask) -> list[Mapping[str, Any]]:
    """Return the annotations of a task that people made and that are not skips."""
    return [
        entry
        for entry in task.annotations
        if not entry.get("was_cancelled") and not is_accepted_suggestion(entry)
    ]


def annotator_of(annotation: Mapping[str, Any]) -> int | None:
    """Return the user id of an annotation, a number or an object by release; None for one without an annotator."""
    who = annotation.get("completed_by")
    who = who.get("id") if isinstance(who, dict) else who
    return None if who is None else int(who)


def _votes(annotations: Iterable[Mapping[str, Any]], tag: ControlTag) -> Counter[Choice]:
    """Count the votes for each choice: one per annotator, by the newest annotation."""
    newest: dict[Any, tuple[tuple[str, int], Choice]] = {}
    for entry in annotations:
        choice = _choice(entry, tag)
        if not choice:
            continue
        who = annotator_of(entry)
        # Annotations without an annotator (imported ones) count as one vote each.
        key = ("unknown", entry.get("id")) if who is None else who
        # Label Studio writes all times in UTC and in one format: text order is time order.
        age = (str(entry.get("updated_at") or entry.get("created_at") or ""), int(entry.get("id") or 0))
        if key not in newest or age > newest[key][0]:
            newest[key] = (age, choice)
    return Counter(choice for _, choice in newest.values())


def _choice(annotation: Mapping[str, Any], tag: ControlTag) -> Choice:
    """Return the classes that an annotation gives to the whole task."""
    chosen: set[str] = set()
    above: set[str] = set()
    for region in annotation.get("result") or ():
        if region.get("from_name") == tag.name:
            value = region.get("value") or {}
            for one in value.get("choices") or value.get("taxonomy") or ():
                chosen.add("/".join(map(str, one)) if isinstance(one, list) else str(one))
                if isinstance(one, list) and not tag.multiple:
                    # Label Studio takes a choice for chosen too when all within it are.
                    above.update("/".join(map(str, one[:depth])) for depth in range(1, len(one)))
    chosen -= above
    place = {name: index for index, name in enumerate(tag.classes)}
    return tuple(sorted(chosen, key=lambda name: (place.get(name, len(place)), name)))

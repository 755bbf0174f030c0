"""One class per task from many annotations; what is exported from that, and how, is `exports/`'s."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from usl_backend.studio.client import LabeledTask
    from usl_backend.studio.label_config import ControlTag, LabelConfig

Choice = tuple[str, ...]
"""Classes chosen for one task, in the order of the label config; one unless the control allows several."""


@dataclass(frozen=True)
class Labels:
    """What annotators agreed on.

    Attributes
    ----------
    control
        Name of the Choices tag that was read.
    classes
        Its classes, in the order of the label config.
    by_task
        Task id -> what was chosen.
    conflicts
        Task id -> the choices that have equally many votes; such tasks are not in `by_task`.
    skipped
        Tasks that were only skipped.
    empty
        Tasks that were submitted without any class of this control.
    ground_truth
        How many tasks took their class from an annotation marked as ground truth.
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
        """Tasks per outcome, for a manifest."""
        return {
            "labeled": len(self.by_task),
            "conflicts": len(self.conflicts),
            "skipped": len(self.skipped),
            "empty": len(self.empty),
            "ground_truth": self.ground_truth,
        }


def classifier(config: LabelConfig, control: str | None = None) -> ControlTag:
    """Decide which Choices tag is read.

    Parameters
    ----------
    config
        The project's label config.
    control
        The user's choice, needed where several Choices classify the whole task.

    Returns
    -------
    ControlTag
        Of type Choices.

    Raises
    ------
    InputError
        There is none, there are several and none was chosen, or the chosen one is something else.
    """
    found = [tag for tag in config.controls if tag.type == "Choices" and not tag.per_region]
    names = ", ".join(tag.name for tag in found)
    if control is not None:
        for tag in found:
            if tag.name == control:
                return tag
        raise InputError(
            f"control is {control!r}, but the Choices of the label config are: {names or 'none'}"
        )
    if len(found) > 1:
        raise InputError(
            f"the label config has several Choices ({names}); choose one, such as {found[0].name}"
        )
    if not found:
        asked = ", ".join(dict.fromkeys(tag.type for tag in config.controls)) or "nothing"
        raise InputError(
            f"classes are read from Choices, but the label config asks for {asked};"
            " export such a project from Label Studio itself"
        )
    return found[0]


def read_labels(labeled: Iterable[LabeledTask], config: LabelConfig, *, control: str | None = None) -> Labels:
    """Read one choice per task.

    Skipped annotations have no voice. An annotation marked as ground truth decides; else every annotator has one
    vote, the newest, and the majority wins. An annotation without a class of this control is no vote. A tie is
    reported, not guessed.

    Parameters
    ----------
    labeled
        Tasks with their annotations, consumed as they come.
    config
        The project's label config.
    control
        Name of the Choices tag to read.

    Returns
    -------
    Labels
        Tasks of `labeled`, each in exactly one of `by_task`, `conflicts`, `skipped` and `empty`.

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
        standing = [entry for entry in task.annotations if not entry.get("was_cancelled")]
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


def _votes(annotations: Iterable[Mapping[str, Any]], tag: ControlTag) -> Counter[Choice]:
    """Choices and how many annotators stand behind each, by everyone's newest annotation."""
    newest: dict[Any, tuple[tuple[str, int], Choice]] = {}
    for entry in annotations:
        choice = _choice(entry, tag)
        if not choice:
            continue
        who = entry.get("completed_by")
        who = who.get("id") if isinstance(who, dict) else who
        # Without a known annotator (imported annotations) every one is a voice of its own.
        key = ("unknown", entry.get("id")) if who is None else who
        # Label Studio writes all times in UTC and in one format, so that text order is time order.
        age = (str(entry.get("updated_at") or entry.get("created_at") or ""), int(entry.get("id") or 0))
        if key not in newest or age > newest[key][0]:
            newest[key] = (age, choice)
    return Counter(choice for _, choice in newest.values())


def _choice(annotation: Mapping[str, Any], tag: ControlTag) -> Choice:
    """Classes that an annotation gives to the whole task."""
    chosen: set[str] = set()
    for region in annotation.get("result") or ():
        if region.get("from_name") == tag.name:
            chosen.update(str(name) for name in (region.get("value") or {}).get("choices") or ())
    place = {name: index for index, name in enumerate(tag.classes)}
    return tuple(sorted(chosen, key=lambda name: (place.get(name, len(place)), name)))

"""Find how annotators' choices are written in results, so that a suggestion is written the same way."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usl_backend.errors import InputError
from usl_backend.studio.label_config import parse
from usl_backend.studio.labels import classifier, read_labels
from usl_backend.studio.preannotations import is_accepted_suggestion
from usl_backend.studio.records import LabeledTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from usl_backend.studio.label_config import LabelConfig
    from usl_backend.studio.preannotations import Result

Choices = list[Any]
"""`value.choices` of a region: names, or paths of names where choices are nested."""


@dataclass(frozen=True)
class ChoicesTag:
    """The Choices tag that a project's single choice is made with.

    Attributes
    ----------
    name, to_name
        Names of the tag and of the object tag that it belongs to.
    classes
        Classes that the label config names, in its order; those of tasks are not among them.
    offered_by
        Field of a task's data that lists its choices; "" where the label config lists them.
    nested
        True if choices lie within choices.
    names
        Every name that the label config gives to a choice, values and aliases.
    """

    name: str
    to_name: str
    classes: tuple[str, ...]
    offered_by: str
    nested: bool
    names: frozenset[str]

    @property
    def lists_classes(self) -> bool:
        """True if the label config says all classes, each by a name of its own."""
        return not self.offered_by and not self.nested

    def allows(self, choices: Choices) -> bool:
        """Return True if the label config still has what a region says; a task's own choices are not checked."""
        return bool(self.offered_by) or self.names.issuperset(names_in(choices))

    def result(self, choices: Choices, *, region: str) -> Result:
        """Return a prediction's result that fills in these choices; `region` is the region's id."""
        value: dict[str, Any] = {"choices": choices}
        if any(isinstance(one, list) for one in choices):
            # Label Studio (1.23) drops predictions with paths, which are how annotators' nested choices look. What
            # lies under the tag's name is checked in place of the rest, and only the rest is shown and submitted.
            value[self.name] = {
                "choices": [str(one[-1] if isinstance(one, list) else one) for one in choices]
            }
        return [
            {
                "id": region,
                "from_name": self.name,
                "to_name": self.to_name,
                "type": "choices",
                "value": value,
            }
        ]


@dataclass
class WrittenChoices:
    """Collects how choices are written, while tasks with their annotations pass through.

    Parameters
    ----------
    tag
        The Choices tag to watch.

    Attributes
    ----------
    seen
        A region of each kind seen, by its text.
    accepted
        Tasks with an annotation that was made from an accepted suggestion, and that is no label.
    """

    tag: ChoicesTag
    seen: dict[str, Choices] = field(default_factory=dict)
    accepted: set[int] = field(default_factory=set)

    def watch(self, labeled: Iterable[LabeledTask]) -> Iterator[LabeledTask]:
        """Yield the tasks unchanged."""
        for task in labeled:
            if any(map(is_accepted_suggestion, task.annotations)):
                self.accepted.add(task.id)
            for annotation in task.annotations:
                for region in annotation.get("result") or ():
                    if region.get("from_name") == self.tag.name:
                        choices = (region.get("value") or {}).get("choices")
                        if isinstance(choices, list) and choices:
                            self.seen.setdefault(json.dumps(choices), choices)
            yield task

    def by_class(self, config: LabelConfig) -> dict[str, Choices]:
        """Return class -> choices as an annotator's region has them, of the classes seen."""
        found: dict[str, Choices] = {}
        for choices in self.seen.values():
            result = [{"from_name": self.tag.name, "value": {"choices": choices}}]
            probe = LabeledTask(0, {}, ({"result": result},))
            chosen = read_labels([probe], config, control=self.tag.name).by_task.get(0, ())
            if len(chosen) == 1:
                found.setdefault(chosen[0], choices)
        return found


def choices_tag(label_config: str, *, control: str | None = None) -> ChoicesTag:
    """Return the Choices tag by which annotators give a task its one class.

    Parameters
    ----------
    label_config
        XML.
    control
        Name of the tag; required if several Choices classify the whole task.

    Raises
    ------
    InputError
        There is no such tag, there are several and `control` is None, or it takes several choices at once.
    """
    tag = classifier(parse(label_config), control)
    if tag.type != "Choices":
        raise InputError(
            f"{tag.type} {tag.name!r} is not a Choices tag; suggestions need one choice per task"
        )
    if tag.multiple:
        raise InputError(
            f"Choices {tag.name!r} takes several choices per task; suggestions need one choice per task"
        )
    # Parsed before without an entity in it. Label Studio reads tags and attributes in any case.
    root = ET.fromstring(label_config)  # noqa: S314  # nosec B314
    element = next(
        one for one in root.iter() if one.tag.lower() == "choices" and _attribute(one, "name") == tag.name
    )
    inside = [one for one in element.iter() if one.tag.lower() == "choice"]
    given = _attribute(element, "value").strip()
    names = {name for one in inside for name in (_attribute(one, "value"), _attribute(one, "alias")) if name}
    nested = any(below is not one and below.tag.lower() == "choice" for one in inside for below in one.iter())
    if nested and tag.name == "choices":
        raise InputError(
            'Label Studio takes no predictions of nested Choices whose name is "choices"; give them another name'
        )
    return ChoicesTag(
        tag.name,
        tag.to_names[0],
        tag.classes,
        given.removeprefix("$") if given.startswith("$") else "",
        nested=nested,
        names=frozenset(names),
    )


def _attribute(element: ET.Element, name: str) -> str:
    """Return an attribute, whatever the case of its name; "" without it."""
    return next((value for key, value in element.attrib.items() if key.lower() == name), "")


def names_in(choices: Choices) -> set[str]:
    """Return the names in a region's choices, those on a path included."""
    return {str(name) for one in choices for name in (one if isinstance(one, list) else [one])}


def offered(data: Mapping[str, Any], key: str) -> frozenset[str]:
    """Return the names of the choices that a task's data offers, nested ones included."""
    found: set[str] = set()

    def collect(entries: object) -> None:
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                found.update(str(entry[name]) for name in ("value", "alias") if entry.get(name) is not None)
                collect(entry.get("children"))
            else:
                found.add(str(entry))

    collect(data.get(key))
    return frozenset(found)

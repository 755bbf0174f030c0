"""What a project's label config shows and asks; nothing here talks to Label Studio or judges a result."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Literal

from usl_backend.errors import InputError

Support = Literal["yes", "not yet", "no"]

# Tags that show something of a task, as far as Label Studio 1.23 knows them; value: how we can embed it.
OBJECT_TAGS: dict[str, Support] = {
    "Image": "yes",
    "Text": "not yet",
    "HyperText": "not yet",
    "Paragraphs": "no",
    "Chat": "no",
    "Audio": "no",
    "AudioPlus": "no",
    "Video": "no",
    "TimeSeries": "no",
    "Table": "no",
    "List": "no",
    "Pdf": "no",
    "MultiChannelTimeSeries": "no",
}
# Controls whose children or labels are classes; the first three classify a whole task.
_CHOICE_TAGS = {"Choice": "value", "Label": "value"}
_CLASSIFIERS = frozenset({"Choices", "Taxonomy", "Pairwise", "Rating"})


@dataclass(frozen=True, slots=True)
class ObjectTag:
    """A tag that shows a part of the task.

    Attributes
    ----------
    name
        Its name within the config, such as `image`.
    type
        The tag, such as `Image`.
    data_key
        Key of the task's data that it shows: `image` for `value="$image"`.
    """

    name: str
    type: str
    data_key: str


@dataclass(frozen=True, slots=True)
class ControlTag:
    """A tag that asks something.

    Attributes
    ----------
    name, type
        Its name within the config and the tag, such as `choice` and `Choices`.
    to_names
        Names of the object tags it belongs to.
    classes
        What can be chosen, in the order of the config; empty where anything can (TextArea, Brush, ...).
    multiple
        Whether several of them may be chosen at once.
    per_region
        Whether it describes regions and not the whole task.
    """

    name: str
    type: str
    to_names: tuple[str, ...]
    classes: tuple[str, ...]
    multiple: bool = False
    per_region: bool = False


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """A parsed label config.

    Attributes
    ----------
    objects, controls
        Its tags, in document order.
    """

    objects: tuple[ObjectTag, ...]
    controls: tuple[ControlTag, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """What annotators choose from: the classes of the first control that has any."""
        classifiers = [tag for tag in self.controls if tag.type in _CLASSIFIERS and not tag.per_region]
        return next((control.classes for control in [*classifiers, *self.controls] if control.classes), ())

    @property
    def classifier(self) -> ControlTag | None:
        """The first control that puts a whole task into classes (Choices), else None."""
        return next((tag for tag in self.controls if tag.type == "Choices" and not tag.per_region), None)


def parse(label_config: str) -> LabelConfig:
    """Parse a label config.

    Parameters
    ----------
    label_config
        The project's XML.

    Returns
    -------
    LabelConfig
        Its object and control tags.

    Raises
    ------
    InputError
        It is not well-formed XML or declares entities.
    """
    if "<!DOCTYPE" in label_config or "<!ENTITY" in label_config:
        # A label config needs none, and expanding them is the classic way to exhaust a parser.
        raise InputError("the label config declares a document type; remove the <!DOCTYPE> from it")
    try:
        root = ET.fromstring(label_config)  # noqa: S314 - entities are refused above  # nosec B314
    except ET.ParseError as error:
        raise InputError(
            f"the label config is not well-formed XML ({error}); correct it in Settings"
        ) from error
    objects: list[ObjectTag] = []
    controls: list[ControlTag] = []
    for element in root.iter():
        name, value = element.get("name"), element.get("value") or element.get("valueList") or ""
        if to_name := element.get("toName"):
            classes = _classes(element)
            choice = element.get("choice", "single")
            controls.append(
                ControlTag(
                    name or "",
                    element.tag,
                    tuple(part.strip() for part in to_name.split(",")),
                    classes,
                    multiple=choice == "multiple",
                    per_region="true" in {element.get("perRegion"), element.get("perItem")},
                )
            )
        elif name and (value.startswith("$") or (element.tag in OBJECT_TAGS and not value)):
            objects.append(ObjectTag(name, element.tag, value.lstrip("$").strip()))
    return LabelConfig(tuple(objects), tuple(controls))


def object_key(config: LabelConfig, data_key: str | None = None) -> ObjectTag:
    """Decide which part of a task is embedded.

    Parameters
    ----------
    config
        The project's label config.
    data_key
        The user's choice, needed where the config shows several images.

    Returns
    -------
    ObjectTag
        An Image tag.

    Raises
    ------
    InputError
        There is no Image, there are several and none was chosen, or the chosen key shows something else.
    """
    if data_key is not None:
        chosen = [tag for tag in config.objects if tag.data_key == data_key]
        if not chosen:
            shown = ", ".join(sorted({tag.data_key for tag in config.objects})) or "nothing"
            raise InputError(f"data_key is {data_key!r}, but the label config shows: {shown}")
        images = [tag for tag in chosen if OBJECT_TAGS.get(tag.type) == "yes"]
        if images:
            return images[0]
        raise InputError(f"data_key is {data_key!r}, which is {_kinds(chosen)}; {_reason(chosen)}")
    images = [tag for tag in config.objects if OBJECT_TAGS.get(tag.type) == "yes"]
    keys = list(dict.fromkeys(tag.data_key for tag in images))
    if len(keys) > 1:
        raise InputError(
            f"the label config shows several images ({', '.join(keys)}); choose one, for example"
            f" --data-key {keys[0]} (data_key in the extra params)"
        )
    if images:
        if not keys[0]:
            raise InputError(
                'the label config\'s Image shows no data; give it a value such as value="$image"'
            )
        return images[0]
    if not config.objects:
        raise InputError(
            'the label config shows nothing of a task; add an object tag such as <Image name="image"'
            ' value="$image"/> in Settings > Labeling Interface'
        )
    raise InputError(
        f"the label config shows {_kinds(config.objects)} but no Image; {_reason(config.objects)}"
    )


def _reason(tags: tuple[ObjectTag, ...] | list[ObjectTag]) -> str:
    """Why none of these tags can be embedded."""
    if any(OBJECT_TAGS.get(tag.type) == "not yet" for tag in tags):
        return "texts are not supported yet, only images are"
    return f"{_kinds(tags)} is not supported, only images are"


def _kinds(tags: tuple[ObjectTag, ...] | list[ObjectTag]) -> str:
    """Types of the tags, each once."""
    return ", ".join(dict.fromkeys(tag.type for tag in tags))


def _classes(element: ET.Element) -> tuple[str, ...]:
    """Choices or labels below a control, each once, in document order."""
    found = [
        child.get("alias") or child.get(_CHOICE_TAGS[child.tag]) or ""
        for child in element.iter()
        if child.tag in _CHOICE_TAGS and child is not element
    ]
    return tuple(dict.fromkeys(name for name in found if name))

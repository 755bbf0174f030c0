"""What a project's label config shows and asks; nothing here talks to Label Studio or judges a result."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Final

from usl_backend.errors import InputError
from usl_backend.instances import Modality

EMBEDDED_TAGS: Final[dict[str, Modality]] = {
    "Image": "image",
    "Text": "text",
    "HyperText": "text",
    "Paragraphs": "text",
}
"""Tags that show what an encoder takes."""

OTHER_TAGS: Final = frozenset(
    {"Chat", "Audio", "AudioPlus", "Video", "TimeSeries", "Table", "List", "Pdf", "MultiChannelTimeSeries"}
)
"""Tags that show something else of a task, as far as Label Studio 1.23 knows them."""

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
    by_url
        Whether the data is an address of a text instead of the text.
    name_key, text_key
        Of Paragraphs: keys of a paragraph's author and text.
    """

    name: str
    type: str
    data_key: str
    by_url: bool = False
    name_key: str = "author"
    text_key: str = "text"


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a task that is embedded.

    Attributes
    ----------
    tag
        What shows it.
    modality
        What it is.
    weight
        Its share beside the other fields, above 0; only the ratio counts.
    """

    tag: ObjectTag
    modality: Modality
    weight: float = 1.0


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
        elif name and (value.startswith("$") or (element.tag in {*EMBEDDED_TAGS, *OTHER_TAGS} and not value)):
            objects.append(
                ObjectTag(
                    name,
                    element.tag,
                    value.lstrip("$").strip(),
                    by_url=element.get("valueType", "").lower() == "url",
                    name_key=element.get("nameKey") or "author",
                    text_key=element.get("textKey") or "text",
                )
            )
    return LabelConfig(tuple(objects), tuple(controls))


def embedded_fields(config: LabelConfig, data_key: str | None = None) -> tuple[Field, ...]:
    """Decide which parts of a task are embedded.

    Without a choice that is the one Image, else the one text; a config that leaves a doubt wants a choice.

    Parameters
    ----------
    config
        The project's label config.
    data_key
        The user's choice: a key of the data, or several with or without weights, such as `image,text` or
        `image=1,text=0.5`.

    Returns
    -------
    tuple of Field
        In the order of the choice; one, unless several were chosen.

    Raises
    ------
    InputError
        Nothing that is shown can be embedded, several can and none was chosen, or the choice cannot be read.
    """
    if data_key is not None:
        weights = parse_weights(data_key)
        return tuple(_field(config, key, weight) for key, weight in weights.items())
    for modality, plural in (("image", "images"), ("text", "texts")):
        tags = [tag for tag in config.objects if EMBEDDED_TAGS.get(tag.type) == modality]
        keys = list(dict.fromkeys(tag.data_key for tag in tags))
        if len(keys) > 1:
            raise InputError(
                f"the label config shows several {plural} ({', '.join(keys)}); choose, for example"
                f" --data-key {keys[0]}, or both by --data-key {keys[0]},{keys[1]} (data_key in the extra params)"
            )
        if tags and not keys[0]:
            raise InputError(
                f"the label config's {tags[0].type} shows no data; give it a value such as "
                f'value="${modality}"'
            )
        if tags:
            return (_field(config, keys[0], 1.0),)
    if not config.objects:
        raise InputError(
            'the label config shows nothing of a task; add an object tag such as <Image name="image"'
            ' value="$image"/> in Settings > Labeling Interface'
        )
    raise InputError(f"the label config shows {_kinds(config.objects)}, which is not supported yet; {_TAGS}")


def parse_weights(data_key: str) -> dict[str, float]:
    """Keys and weights of a choice such as `image=1,text=0.5`.

    Parameters
    ----------
    data_key
        The setting's value.

    Returns
    -------
    dict of str to float
        In the order of the text; a key without a weight has 1.

    Raises
    ------
    InputError
        A key is empty or repeated, or a weight is not a number above 0.
    """
    weights: dict[str, float] = {}
    for part in data_key.split(","):
        key, equals, number = part.strip().partition("=")
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = math.nan
        if not key or key in weights or not 0 < weight < math.inf:
            raise InputError(
                f"data_key is {data_key!r}; write keys of the data, each once, such as image,text or image=1,text=0.5"
            )
        weights[key] = weight
    return weights


_TAGS: Final = f"{', '.join(EMBEDDED_TAGS)} are"


def _field(config: LabelConfig, key: str, weight: float) -> Field:
    """The field behind a key of the data."""
    shown = [tag for tag in config.objects if tag.data_key == key]
    if not shown:
        known = ", ".join(sorted({tag.data_key for tag in config.objects})) or "nothing"
        raise InputError(f"data_key is {key!r}, but the label config shows: {known}")
    tag = next((tag for tag in shown if tag.type in EMBEDDED_TAGS), None)
    if tag is None:
        raise InputError(f"data_key is {key!r}, which is {_kinds(shown)} and not supported yet; {_TAGS}")
    if tag.by_url and EMBEDDED_TAGS[tag.type] == "text":
        raise InputError(
            f'{tag.type} {tag.name!r} has valueType="url", which is not supported yet; put the text itself into the'
            " tasks' data"
        )
    return Field(tag, EMBEDDED_TAGS[tag.type], weight)


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

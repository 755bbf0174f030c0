"""Parse a project's label config and choose the fields of a task to embed."""

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
"""Object tags with data that an encoder can embed."""

OTHER_TAGS: Final = frozenset(
    {"Chat", "Audio", "AudioPlus", "Video", "TimeSeries", "Table", "List", "Pdf", "MultiChannelTimeSeries"}
)
"""Other object tags of Label Studio 1.23; their data cannot be embedded."""

# Child tags that hold classes, and the attribute with the name.
_CHOICE_TAGS = {"Choice": "value", "Label": "value"}
# Control tags that classify a whole task.
_CLASSIFIERS = frozenset({"Choices", "Taxonomy", "Pairwise", "Rating"})


@dataclass(frozen=True, slots=True)
class ObjectTag:
    """A tag that shows a part of the task.

    Attributes
    ----------
    name
        Name within the config, such as `image`.
    type
        The tag, such as `Image`.
    data_key
        Key of the task's data that is shown: `image` for `value="$image"`.
    by_url
        True if the data is the URL of a text instead of the text itself.
    name_key, text_key
        For Paragraphs: keys of a paragraph's author and text.
    """

    name: str
    type: str
    data_key: str
    by_url: bool = False
    name_key: str = "author"
    text_key: str = "text"


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a task to embed.

    Attributes
    ----------
    tag
        Object tag that shows it.
    weight
        Share relative to the other fields, above 0; only the ratio counts.
    """

    tag: ObjectTag
    modality: Modality
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ControlTag:
    """A tag for annotators to answer.

    Attributes
    ----------
    name, type
        Name within the config and the tag, such as `choice` and `Choices`.
    to_names
        Names of the object tags it belongs to.
    classes
        Classes to choose from, in the order of the config; empty for free input (TextArea, Brush, ...).
    multiple
        True if several classes may be chosen at once.
    per_region
        True if it describes regions instead of the whole task.
    """

    name: str
    type: str
    to_names: tuple[str, ...]
    classes: tuple[str, ...]
    multiple: bool = False
    per_region: bool = False


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """Object and control tags of a label config, in document order."""

    objects: tuple[ObjectTag, ...]
    controls: tuple[ControlTag, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the first control that has any; controls for the whole task come first."""
        classifiers = [tag for tag in self.controls if tag.type in _CLASSIFIERS and not tag.per_region]
        return next((control.classes for control in [*classifiers, *self.controls] if control.classes), ())

    @property
    def classifier(self) -> ControlTag | None:
        """First Choices tag that classifies the whole task, else None."""
        return next((tag for tag in self.controls if tag.type == "Choices" and not tag.per_region), None)


def parse(label_config: str) -> LabelConfig:
    """Parse a label config.

    Raises
    ------
    InputError
        It is not well-formed XML or declares entities.
    """
    if "<!DOCTYPE" in label_config or "<!ENTITY" in label_config:
        # A label config needs no entities, and expanding them is the classic way to exhaust a parser.
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
    """Choose the parts of a task to embed.

    The default is the only Image, or the only text if there is no Image; an ambiguous config requires `data_key`.

    Parameters
    ----------
    data_key
        Keys of the data, with or without weights, such as `image`, `image,text` or `image=1,text=0.5`.

    Returns
    -------
    tuple of Field
        In the order of `data_key`; a single one without it.

    Raises
    ------
    InputError
        The config shows nothing that can be embedded, shows several such fields and `data_key` is None, or
        `data_key` is malformed or names an unsupported field.
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
    """Parse the setting `data_key`, such as `image=1,text=0.5`.

    Returns
    -------
    dict of str to float
        Key -> weight, in the order of the text; 1 for a key without a weight.

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
    """Return the field for a key of the data."""
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
    """List the types of the tags, each once."""
    return ", ".join(dict.fromkeys(tag.type for tag in tags))


def _classes(element: ET.Element) -> tuple[str, ...]:
    """Return the choices or labels below a control, each once, in document order."""
    found = [
        child.get("alias") or child.get(_CHOICE_TAGS[child.tag]) or ""
        for child in element.iter()
        if child.tag in _CHOICE_TAGS and child is not element
    ]
    return tuple(dict.fromkeys(name for name in found if name))

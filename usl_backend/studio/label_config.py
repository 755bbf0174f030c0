"""Parse a project's label config: what it shows of a task and what it asks; `fields.py` reads what is shown."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from usl_backend.errors import InputError
from usl_backend.instances import Modality
from usl_backend.studio.values import Repeat, Value

EMBEDDED_TAGS: Final[dict[str, Modality]] = {
    "Image": "image",
    "Video": "image",
    "Pdf": "image",
    "Text": "text",
    "HyperText": "text",
    "Paragraphs": "text",
    "Chat": "text",
}
"""Object tags with data that an encoder can embed; a video is several images, and so is a PDF."""

SEVERAL_IN_ONE: Final = frozenset({"Video", "Pdf"})
"""Object tags whose files hold several images."""

OTHER_TAGS: Final = frozenset(
    {
        "Audio", "AudioPlus", "TimeSeries", "Table", "List", "MultiChannel", "ReactCode",
        "CustomInterface",
    }
)  # fmt: skip
"""Other object tags of Label Studio 1.23; their data are embedded only where `data_key` names a field of them."""

_VISUAL_TAGS: Final = frozenset({"Header", "Markdown"})
# Label Studio reads the names of tags in any case.
_SPELLING: Final = {
    name.lower(): name
    for name in (
        *EMBEDDED_TAGS, *OTHER_TAGS, *_VISUAL_TAGS, "Choices", "Choice", "Taxonomy", "Pairwise", "Rating", "Labels",
        "Label", "TextArea", "Number", "DateTime", "Ranker", "Brush", "BrushLabels", "Ellipse", "EllipseLabels",
        "HyperTextLabels", "KeyPoint", "KeyPointLabels", "ParagraphLabels", "Polygon", "PolygonLabels", "Rectangle",
        "RectangleLabels", "TimeSeriesLabels", "TimelineLabels", "VideoRectangle", "Relations", "Repeater",
    )
}  # fmt: skip
_INDEX: Final = "{{idx}}"
"""What stands for an item's index within a Repeater that names no `indexFlag`."""

_DEEPEST: Final = 100
"""Levels of tags in each other; configs with large taxonomies have a dozen."""

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
        Name within the config, such as `image`; "" for a tag that only decorates, such as Header.
    type
        The tag, such as `Image`.
    value
        What it shows.
    by_url
        True if the data is the URL of a text instead of the text itself.
    resolver
        True if a column of a table at that URL is shown.
    encoding
        For texts: `none`, `base64` or `base64unicode`.
    name_key, text_key
        For Paragraphs: keys of a paragraph's author and text.
    """

    name: str
    type: str
    value: Value
    by_url: bool = False
    resolver: bool = False
    encoding: str = "none"
    name_key: str = "author"
    text_key: str = "text"

    @property
    def data_key(self) -> str:
        """What it shows, for people: `image` for `value="$image"`, a text with references as it is."""
        return self.value.key


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
    repeated
        True if a Repeater asks once per item of a list instead of once per task.
    open
        True if a task's data, or an address, gives classes too.
    """

    name: str
    type: str
    to_names: tuple[str, ...]
    classes: tuple[str, ...]
    multiple: bool = False
    per_region: bool = False
    repeated: bool = False
    open: bool = False


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """Object and control tags of a label config, in document order.

    Attributes
    ----------
    objects
        Tags that show a field of the data, or that lack the value that says which.
    """

    objects: tuple[ObjectTag, ...]
    controls: tuple[ControlTag, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the first control that has any; controls for the whole task come first."""
        classifiers = [tag for tag in self.controls if tag.type in _CLASSIFIERS and not tag.per_region]
        return next((control.classes for control in [*classifiers, *self.controls] if control.classes), ())

    @property
    def classifier(self) -> ControlTag | None:
        """First Choices tag that classifies the whole task, else the first such Taxonomy, else None."""
        return next(iter(self.classifiers), None)

    @property
    def classifiers(self) -> list[ControlTag]:
        """Tags that classify the whole task: Choices, then Taxonomy."""
        whole = [tag for tag in self.controls if not (tag.per_region or tag.repeated)]
        return [tag for kind in ("Choices", "Taxonomy") for tag in whole if tag.type == kind]


def parse(label_config: str) -> LabelConfig:
    """Parse a label config.

    Raises
    ------
    InputError
        It is not well-formed XML, declares entities, or has more than 100 levels of tags in each other.
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
    _check_depth(root)
    reader = _Reader()
    reader.read(root, ())
    return LabelConfig(tuple(reader.objects), tuple(reader.controls))


def _check_depth(root: ET.Element) -> None:
    """Refuse tags that lie in each other deeper than functions may call each other."""
    level = [root]
    for _ in range(_DEEPEST):
        level = [child for element in level for child in element]
        if not level:
            return
    raise InputError(
        f"the label config has more than {_DEEPEST} levels of tags in each other; make it flatter in Settings"
    )


@dataclass
class _Reader:
    """Collects the tags below an element, with the Repeaters around them."""

    objects: list[ObjectTag] = field(default_factory=list)
    controls: list[ControlTag] = field(default_factory=list)

    def read(self, element: ET.Element, repeats: tuple[Repeat, ...]) -> None:
        """Take in an element and everything below it."""
        tag = _spelled(element)
        attributes = {name.lower(): value for name, value in element.attrib.items()}
        if tag == "Repeater":
            repeats = (*repeats, Repeat(attributes.get("on", ""), attributes.get("indexflag") or _INDEX))
        elif attributes.get("toname"):
            self.controls.append(_control(tag, element, attributes, repeated=bool(repeats)))
        if tag not in _CHOICE_TAGS and (shown := _object(tag, element, attributes, repeats)) is not None:
            self.objects.append(shown)
        if tag != "HyperText":  # its children are what it shows
            for child in element:
                self.read(child, repeats)


def _control(tag: str, element: ET.Element, attributes: dict[str, str], *, repeated: bool) -> ControlTag:
    """Read a control tag."""
    return ControlTag(
        attributes.get("name", ""),
        tag,
        tuple(part.strip() for part in attributes["toname"].split(",")),
        _classes(element),
        multiple=_takes_several(tag, attributes),
        per_region="true" in {attributes.get("perregion"), attributes.get("peritem")},
        repeated=repeated,
        open=attributes.get("value", "").startswith("$") or "apiurl" in attributes,
    )


def _object(
    tag: str, element: ET.Element, attributes: dict[str, str], repeats: tuple[Repeat, ...]
) -> ObjectTag | None:
    """Read an object tag; None for anything that shows the same in every task."""
    code = tag in {"ReactCode", "CustomInterface"}
    if attributes.get("toname") and not code:
        return None
    value = Value((attributes.get("data", "") if code else _shown(tag, element, attributes)).strip(), repeats)
    known = tag in EMBEDDED_TAGS or tag in OTHER_TAGS
    name = attributes.get("name", "")
    if not value.shows_data and (value.text or not known or not name):
        return None
    if not (known or tag in _VISUAL_TAGS or name):
        return None
    return ObjectTag(
        name,
        tag,
        value,
        by_url=attributes.get("valuetype", "").lower() == "url",
        resolver="resolver" in attributes,
        encoding=attributes.get("encoding", "none").lower(),
        name_key=attributes.get("namekey") or "author",
        text_key=attributes.get("textkey") or "text",
    )


def _shown(tag: str, element: ET.Element, attributes: dict[str, str]) -> str:
    """Return what a tag is given to show: its content before its attributes, as in the editor."""
    inside = element.text or ""
    if tag == "HyperText":
        inside += "".join(ET.tostring(child, encoding="unicode") for child in element)
    elif len(element):
        inside = ""
    return inside.strip() or attributes.get("valuelist") or attributes.get("value") or ""


def _spelled(element: ET.Element) -> str:
    """Return the name of a tag in the usual spelling."""
    return _SPELLING.get(element.tag.lower(), element.tag)


def _classes(element: ET.Element) -> tuple[str, ...]:
    """Return the choices or labels below a control, each once, in document order; nested ones as paths."""
    attributes = {name.lower(): value for name, value in element.attrib.items()}
    tree = _spelled(element) == "Taxonomy"
    nested = tree or attributes.get("allownested") == "true"
    leaves = tree and attributes.get("leafsonly") == "true"
    return tuple(dict.fromkeys(_below(element, "", nested=nested, leaves=leaves)))


def _below(element: ET.Element, above: str, *, nested: bool, leaves: bool) -> Iterator[str]:
    """Yield the classes below an element; `above` is the path of the choice that it is in, with its "/"."""
    for child in element:
        tag = _spelled(child)
        if tag not in _CHOICE_TAGS:
            yield from _below(child, above, nested=nested, leaves=leaves)
            continue
        name = child.get("alias") or child.get(_CHOICE_TAGS[tag]) or ""
        # Label Studio shows the choices within a choice only where they are allowed.
        within = (
            list(_below(child, f"{above}{name}/", nested=nested, leaves=leaves)) if nested and name else []
        )
        if name and not (leaves and within):
            yield above + name
        yield from within


def _takes_several(tag: str, attributes: dict[str, str]) -> bool:
    """Return True if several classes may be chosen at once; a Taxonomy says how many at most."""
    if tag == "Taxonomy":
        return attributes.get("maxusages") != "1"
    return attributes.get("choice") == "multiple"

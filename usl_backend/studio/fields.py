"""Choose the fields of a task to embed, and read what they show of a task: one picture or text, or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from usl_backend.errors import InputError, MediaError
from usl_backend.instances import Modality, TextFile
from usl_backend.studio.chats import is_chat
from usl_backend.studio.kinds import kind_of
from usl_backend.studio.label_config import EMBEDDED_TAGS, OTHER_TAGS, SEVERAL_IN_ONE, LabelConfig, ObjectTag
from usl_backend.studio.texts import text_of
from usl_backend.studio.values import Value, look_up

Data = Mapping[str, Any]
"""The data of a task."""

_PLURALS: Final[Mapping[Modality, str]] = {"image": "images", "text": "texts"}
_DEFAULTS: Final[Sequence[tuple[Modality, str, frozenset[str]]]] = (
    ("image", "images", frozenset({"Image"})),
    ("text", "texts", frozenset(tag for tag, modality in EMBEDDED_TAGS.items() if modality == "text")),
    ("image", "videos or PDFs", SEVERAL_IN_ONE),
)
"""What is embedded by default: images; without them texts; without these the images of videos and PDFs."""
_TEXTS_BY_URL: Final = frozenset({"Text", "HyperText", "Paragraphs"})
"""Object tags that Label Studio gives the text at an address."""
_ADVICE: Final = (
    "name a picture or a text of the tasks by data_key (a transcript, for example), or bring vectors of your own with "
    "encoder=field:NAME"
)


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a task to embed.

    Attributes
    ----------
    tag
        Object tag that shows it; for a field of the data without such a tag one of type "" that refers to it.
    weight
        Share relative to the other fields, above 0; only the ratio counts.
    in_files
        True for texts that lie at the addresses which the field holds.
    """

    tag: ObjectTag
    modality: Modality
    weight: float = 1.0
    in_files: bool = False

    @property
    def key(self) -> str:
        """Its name, such as `image` or `images[0]`."""
        return self.tag.data_key

    @property
    def file(self) -> TextFile | None:
        """How its texts are read from files; None if it holds the texts themselves, or images."""
        if not self.in_files:
            return None
        tag = self.tag
        return TextFile(self.key, tag.type or "Pdf", tag.encoding, tag.name_key, tag.text_key)

    def __str__(self) -> str:
        return f"{self.tag.type} {self.tag.name!r}" if self.tag.type else f"field {self.key!r}"

    def sources(self, data: Data) -> tuple[str, ...]:
        """Return the addresses or texts that it shows of a task, in order, at least one.

        Of several, those that are missing are "".

        Raises
        ------
        MediaError
            It shows none; the message is the reason to show.
        """
        shown = [part for value in self.tag.value.of(data) for part in self._parts(value)]
        found: list[str] = []
        reason: MediaError | None = None
        for part in shown:
            try:
                found.append(self._read(part))
            except MediaError as error:
                reason = reason or error
                found.append("")
        if not any(found):
            raise reason or MediaError(f'"{self.key}" is empty')
        return tuple(found)

    def _parts(self, value: Any) -> Sequence[Any]:
        """Split what a tag shows into its pictures or texts."""
        several = isinstance(value, list) and (
            self.modality == "image" or self.in_files or not (self.tag.type or is_chat(value))
        )
        return value if several else (value,)

    def _read(self, part: Any) -> str:
        """Return the address of a file, or a text."""
        if self.modality == "text" and not self.in_files:
            return text_of(self.tag, part)
        if part is None or (isinstance(part, str) and not part.strip()):
            raise MediaError(f'"{self.key}" is empty')
        if not isinstance(part, str):
            raise MediaError(f'"{self.key}" is a {type(part).__name__}, not an address')
        return part.strip()


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """One entry of the setting `data_key`; modality None where the values have to tell it."""

    key: str
    modality: Modality | None
    weight: float


def parse_data_key(data_key: str) -> tuple[KeyChoice, ...]:
    """Parse the setting `data_key`, such as `image=1,text:summary=0.5`.

    Returns
    -------
    tuple of KeyChoice
        In the order of the text; weight 1 for a key without a weight.

    Raises
    ------
    InputError
        A key is empty or repeated, or a weight is not a number above 0.
    """
    chosen: dict[str, KeyChoice] = {}
    for part in data_key.split(","):
        key, equals, number = part.strip().partition("=")
        modality: Modality | None = None
        for one in _PLURALS:
            if key.startswith(f"{one}:"):
                modality, key = one, key.removeprefix(f"{one}:").strip()
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = math.nan
        if not key or key in chosen or not 0 < weight < math.inf:
            raise InputError(
                f"data_key is {data_key!r}; write keys of the data, each once, such as image,text or"
                " image=1,text:summary=0.5"
            )
        chosen[key] = KeyChoice(key, modality, weight)
    return tuple(chosen.values())


def embedded_fields(
    config: LabelConfig, data_key: str | None = None, *, first: Sequence[Data] = ()
) -> tuple[Field, ...]:
    """Choose the parts of a task to embed.

    The default is the only Image, or the only text if there is no Image, or else the only Video or Pdf; an ambiguous
    config requires `data_key`.

    Parameters
    ----------
    data_key
        Fields of the data, shown by a tag or not, with or without a modality and a weight: `image`, `image,text`,
        `image=1,text=0.5`, `text:summary`, `images[0]`; or names of object tags.
    first
        Data of the first tasks, which tell what a field holds that no tag shows.

    Returns
    -------
    tuple of Field
        In the order of `data_key`; a single one without it.

    Raises
    ------
    InputError
        The config shows nothing that can be embedded, shows several such fields and `data_key` is None, or
        `data_key` is malformed or names a field that is not there or cannot be embedded.
    """
    if data_key is not None:
        return tuple(_chosen_field(config, one, first) for one in parse_data_key(data_key))
    for modality, plural, types in _DEFAULTS:
        tags = [tag for tag in config.objects if tag.type in types]
        keys = list(dict.fromkeys(tag.data_key for tag in tags))
        if len(keys) > 1:
            names = list(dict.fromkeys(map(_name, tags)))
            raise InputError(
                f"the label config shows several {plural} ({', '.join(keys)}); choose, for example"
                f" --data-key {names[0]}, or both by --data-key {names[0]},{names[1]} (data_key in the extra params)"
            )
        if tags and not keys[0]:
            raise InputError(
                f"the label config's {tags[0].type} shows no data; give it a value such as "
                f'value="${modality}"'
            )
        if tags:
            return (_embeddable(tags[0], 1.0),)
    objects = [tag for tag in config.objects if tag.type in OTHER_TAGS] or config.objects
    if not objects:
        raise InputError(
            'the label config shows nothing of a task; add an object tag such as <Image name="image"'
            ' value="$image"/> in Settings > Labeling Interface'
        )
    raise InputError(f"the label config shows {_kinds(objects)}, which is not supported yet; {_ADVICE}")


def field_named(config: LabelConfig, key: str, modality: Modality, *, in_files: bool = False) -> Field:
    """Return the field that a run embedded: what a tag of the label config shows, or a field of the data."""
    tags = (tag for tag in config.objects if tag.data_key == key and EMBEDDED_TAGS.get(tag.type) == modality)
    return Field(next(tags, ObjectTag("", "", Value.field(key))), modality, in_files=in_files)


def _chosen_field(config: LabelConfig, chosen: KeyChoice, first: Sequence[Data]) -> Field:
    """Return the field that an entry of `data_key` means: what a tag shows, a field of the data, or a tag by name."""
    showing = [tag for tag in config.objects if tag.data_key == chosen.key]
    values = list(_values(chosen.key, first))
    named = [tag for tag in config.objects if tag.name == chosen.key and tag.value.shows_data]
    for tag in (*showing, *(() if showing or values else named)):
        if tag.type in EMBEDDED_TAGS and chosen.modality in (None, EMBEDDED_TAGS[tag.type]):
            return _embeddable(tag, chosen.weight)
    if not (showing or values or named) or (not values and chosen.modality is None):
        raise _unknown(config, chosen, showing, first)
    tag = ObjectTag("", "", Value.field(chosen.key))
    kind = kind_of(values)
    if chosen.modality == "text" and kind == "video":
        raise InputError(
            f"data_key is text:{chosen.key}, but it holds a video (such as {str(values[0])[:60]!r}), which has no "
            f"text; write image:{chosen.key}, or put the text into the tasks' data"
        )
    if chosen.modality == "text" and (kind == "pdf" or (kind != "text" and _shows_pdf(showing))):
        return Field(tag, "text", chosen.weight, in_files=True)
    if chosen.modality is not None:
        return Field(tag, chosen.modality, chosen.weight)
    if kind == "image" or kind == "text":
        return Field(tag, kind, chosen.weight)
    if kind == "video" or kind == "pdf":
        return Field(tag, "image", chosen.weight)
    what = f"{kind} (such as {str(values[0])[:60]!r})"
    raise InputError(f"data_key is {chosen.key!r}, which holds {what} and is not supported yet; {_ADVICE}")


def _shows_pdf(tags: Sequence[ObjectTag]) -> bool:
    """Return True if one of the tags shows PDFs."""
    return any(tag.type == "Pdf" for tag in tags)


def _unknown(
    config: LabelConfig, chosen: KeyChoice, showing: Sequence[ObjectTag], first: Sequence[Data]
) -> InputError:
    """The error for a field that is not there, or of which no task tells what it holds."""
    if showing:
        return InputError(
            f"data_key is {chosen.key!r}, which is {_kinds(showing)}, and no task tells what it holds; write"
            f" image:{chosen.key} or text:{chosen.key}"
        )
    known = {tag.data_key for tag in config.objects}.union(*first)
    return InputError(
        f"data_key is {chosen.key!r}, but label config and tasks have: {', '.join(sorted(known)) or 'nothing'}"
    )


def _values(key: str, first: Sequence[Data]) -> list[Any]:
    """Return the values of a field in the tasks that have it."""
    found = []
    for data in first:
        try:
            value = look_up(key, data)
        except KeyError:
            continue
        if value not in (None, "", []):
            found.append(value)
    return found


def _embeddable(tag: ObjectTag, weight: float) -> Field:
    """Return the field that a tag with pictures or texts shows."""
    modality = EMBEDDED_TAGS[tag.type]
    by_url = tag.by_url and modality == "text"
    if modality == "text" and (tag.resolver or (by_url and tag.type not in _TEXTS_BY_URL)):
        what = "a resolver" if tag.resolver else 'valueType="url"'
        raise InputError(
            f"{tag.type} {tag.name!r} has {what}, which is not supported yet; put the text itself into the tasks' data"
        )
    return Field(tag, modality, weight, in_files=by_url)


def _name(tag: ObjectTag) -> str:
    """Return what `data_key` may call a tag."""
    return tag.data_key if tag.value.is_reference else tag.name


def _kinds(tags: Sequence[ObjectTag]) -> str:
    """List the types of the tags, each once."""
    return ", ".join(dict.fromkeys(tag.type for tag in tags))

"""Resolve the value of a tag against a task's data, as Label Studio's editor does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from usl_backend.errors import MediaError

# The editor's own pattern of a reference; braces belong to a Repeater's index.
_REFERENCE: Final = re.compile(r"\$([A-Za-z0-9_\[\].{}]+)")
# Names that the editor cannot refer to, such as one with a hyphen, though people try.
_NAME: Final = re.compile(r"\$([\w-]+)")
_STEP: Final = re.compile(r"\[([^\]]*)\]|\.?([^.\[]*)")
_QUOTES: Final = "\"'"
_EXPONENT_FROM: Final = 1e21
"""JavaScript writes numbers from here on with an exponent, as Python does from 1e16 on."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A Repeater around a tag, which shows the tag once per item of a list.

    Attributes
    ----------
    on
        Value that refers to the list, such as `$pages`.
    flag
        Text within the tag that stands for the item's index, such as `{{idx}}`.
    """

    on: str
    flag: str


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a tag: a reference to a field of the data, or text with references in it.

    Attributes
    ----------
    text
        As in the label config: `$image`, `$images[0]`, `$meta.url`, `Q: $question A: $answer`.
    repeats
        Repeaters around the tag, outermost first.
    """

    text: str
    repeats: tuple[Repeat, ...] = ()

    @classmethod
    def field(cls, key: str) -> Value:
        """Return the value that refers to a field of the data."""
        return cls(f"${key}")

    @property
    def shows_data(self) -> bool:
        """True if the value refers to the data at all."""
        return self.is_reference or _REFERENCE.search(self.text) is not None

    @property
    def key(self) -> str:
        """The reference without its `$` where the value is nothing else, such as `images[0]`; otherwise the text."""
        return self.text[1:] if self.is_reference else self.text

    @property
    def is_reference(self) -> bool:
        """True if the value is a single reference."""
        return (_REFERENCE.fullmatch(self.text) or _NAME.fullmatch(self.text)) is not None

    def of(self, data: Mapping[str, Any]) -> Iterator[Any]:
        """Yield what the tag shows of a task: one value, or one per item of its Repeater.

        Items that lack the field yield None.

        Raises
        ------
        MediaError
            The data lacks a field, or the Repeater's is no list with items; the message is the reason to show.
        """
        if not self.repeats:
            yield _resolve(self.text, data)
            return
        outer, *inner = self.repeats
        items = _resolve(outer.on, data)
        if not isinstance(items, Sequence) or isinstance(items, str) or not items:
            raise MediaError(f'"{outer.on.lstrip("$")}" is not a list with items')
        for index in range(len(items)):

            def put(text: str, number: int = index) -> str:
                return text.replace(outer.flag, str(number))

            within = Value(put(self.text), tuple(Repeat(put(one.on), one.flag) for one in inner))
            try:
                yield from within.of(data)
            except MediaError:
                yield None


def look_up(key: str, data: Mapping[str, Any]) -> Any:
    """Return what a reference such as `images[0]` or `meta.url` leads to; a field of that very name comes first.

    Raises
    ------
    KeyError
        It leads to nothing.
    """
    if key in data:
        return data[key]
    found: Any = data
    for step in _steps(key):
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, Sequence) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            raise KeyError(key)
    return found


def _steps(key: str) -> list[str]:
    """Split a reference such as `a[0].b` into its steps, at least one."""
    matches = [match for match in _STEP.finditer(key) if match.group()]
    return [(match[1] or match[2] or "").strip(_QUOTES) for match in matches] or [""]


def _resolve(text: str, data: Mapping[str, Any]) -> Any:
    """Replace the references of a value; a value that is one reference keeps the type of what it leads to."""
    whole = _REFERENCE.fullmatch(text)
    try:
        if whole is not None:
            return look_up(whole[1], data)
        if (name := _NAME.fullmatch(text)) is not None and name[1] in data:
            return data[name[1]]
        return _REFERENCE.sub(lambda match: written(look_up(match[1], data)), text)
    except KeyError as error:
        raise MediaError(f'its data has no "{error.args[0]}"') from None


def written(value: Any) -> str:
    """Write a value within a text as the editor does, 3.0 as 3; null and objects leave nothing to read."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXPONENT_FROM:
        return str(int(Decimal(repr(value))))  # the shortest digits that mean it, then zeros
    if isinstance(value, list):
        return ",".join(map(written, value))
    return str(value) if isinstance(value, str | int | float) else ""

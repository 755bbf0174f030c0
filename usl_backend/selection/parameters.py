"""Options of a selection method as fields of a frozen dataclass: defaults, presets and checks.

The dataclass is the constructor: editors, type checkers and `help()` read the options off its signature.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from usl_backend.errors import SettingsError, nearest_name

YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Default:
    """Default of an option: an object of its own, so that a preset yields to the same value where it was given."""

    value: Any

    def __repr__(self) -> str:
        return repr(self.value)


def option(default: Any, help: str, **bounds: float) -> Any:  # noqa: A002 - the contract calls it help
    """Make a dataclass field with a default, a help text and optional bounds `least` and `most` (inclusive)."""
    return dataclasses.field(default=Default(default), metadata={"help": help, **bounds})


@dataclass(frozen=True)
class MethodOption:
    """One option of a selection method.

    Attributes
    ----------
    method, name
        Of the method and of its option.
    annotation
        int, float, bool, a Literal of strings, or a number or such a Literal (`int | Literal["auto"]`).
    default
        Value when neither the caller nor a preset names one.
    help
        Meaning: a phrase, without a full stop.
    least, most
        Inclusive bounds of a number.
    """

    method: str
    name: str
    annotation: Any
    default: Any
    help: str
    least: float = -math.inf
    most: float = math.inf

    def parse(self, value: Any) -> Any:
        """Read a value that came as data: text becomes a number or a switch; anything else stays as it is."""
        text = str(value).strip().lower()
        if self.annotation is bool:
            return text in YES if text in (*YES, *NO) else value
        if isinstance(value, str) and self.number in (int, float):
            try:
                return float(text) if self.number is float or not _whole(text) else int(text)
            except ValueError:
                return text if text in self.words else value
        return value

    @property
    def words(self) -> tuple[str, ...]:
        """Strings that are values."""
        parts = (self.annotation, *get_args(self.annotation))
        return tuple(word for part in parts if get_origin(part) is Literal for word in get_args(part))

    @property
    def number(self) -> Any:
        """Type of a value that is no word."""
        if get_origin(self.annotation) in (Union, UnionType):
            return next(part for part in get_args(self.annotation) if part in (int, float))
        return self.annotation

    def check(self, value: Any) -> Any:
        """Return the value in the option's own type.

        Raises
        ------
        SettingsError
            A value of another type or out of bounds; the message names the option, the value and the remedy.
        """
        what = f"{self.method} option {self.name} is {value!r}"
        if value in self.words:
            return value
        if get_origin(self.annotation) is Literal:
            raise SettingsError(f"{what}; {nearest_name(str(value), self.words)}")
        or_word = "".join(f' or "{word}"' for word in self.words)
        if self.annotation is bool:
            if not isinstance(value, bool):
                raise SettingsError(f"{what}; give true or false")
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SettingsError(f"{what}; give a {'whole ' if self.number is int else ''}number{or_word}")
        if self.number is int and not (math.isfinite(value) and value == int(value)):
            raise SettingsError(f"{what}; give a whole number{or_word}")
        if not self.least <= value <= self.most:
            bounds = f"at least {self.least:g}" + (
                f" and at most {self.most:g}" if self.most < math.inf else ""
            )
            raise SettingsError(f"{what}; give {bounds}{or_word}")
        return self.number(value)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Base of every method's options: a value given wins over the preset's, and that over the default.

    A subclass is a frozen dataclass whose options are made by `option`; one that has presets also has a field
    `preset`.
    """

    name: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __post_init__(self) -> None:
        preset: str | None = getattr(self, "preset", None)
        if preset is not None and preset not in self.presets:
            raise SettingsError(
                f'preset of method "{self.name}" is "{preset}"; {nearest_name(str(preset), self.presets)}'
            )
        start = {} if preset is None else self.presets[preset]
        for name, known in self.options().items():
            given = getattr(self, name)
            value = start.get(name, known.default) if isinstance(given, Default) else known.check(given)
            object.__setattr__(self, name, value)

    @classmethod
    @functools.cache
    def options(cls) -> Mapping[str, MethodOption]:
        """Option name -> its type, default, meaning and bounds."""
        found = {}
        for field in dataclasses.fields(cls):
            if isinstance(field.default, Default):
                owner = next(base for base in cls.__mro__ if field.name in inspect.get_annotations(base))
                hint = get_type_hints(owner)[field.name]
                found[field.name] = MethodOption(
                    cls.name, field.name, hint, field.default.value, **field.metadata
                )
        return found

    def values(self) -> dict[str, Any]:
        """Option name -> value in use, JSON-able."""
        return {name: getattr(self, name) for name in self.options()}


def _whole(text: str) -> bool:
    """Tell `20` from `20.0` and `2e1`."""
    return text.lstrip("+-").isdigit()

"""Presets and options resolved to one frozen parameter object. No method's own parameters live here."""

from __future__ import annotations

import dataclasses
import math
import types
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from usl_backend.errors import SettingsError, nearest_name

if TYPE_CHECKING:
    from collections.abc import Mapping

P = TypeVar("P")


def option(default: Any, help: str, **bounds: float) -> Any:  # noqa: A002 - the contract calls it help
    """Make a dataclass field with a default, a help text and optional bounds `least` and `most` (inclusive)."""
    return dataclasses.field(default=default, metadata={"help": help, **bounds})


def resolve(
    parameters_type: type[P],
    *,
    method: str,
    presets: Mapping[str, P],
    preset: str | None,
    options: Mapping[str, Any],
) -> P:
    """Start from the defaults or a preset and lay single options over it.

    Parameters
    ----------
    parameters_type
        Frozen dataclass whose fields are made by `option`.
    method
        Name shown in errors.
    presets
        Named instances of `parameters_type`.
    preset
        One of their names, or None for the defaults.
    options
        Field name -> value.

    Returns
    -------
    P

    Raises
    ------
    SettingsError
        An unknown preset or option (the nearest known name is suggested), or a value of a wrong type or out of
        bounds.
    """
    if preset is not None and preset not in presets:
        raise SettingsError(f"{method} has no preset {preset!r}; {nearest_name(str(preset), presets)}")
    start = presets[preset] if preset is not None else parameters_type()
    hints = get_type_hints(parameters_type)
    fields = {field.name: field for field in dataclasses.fields(parameters_type)}  # type: ignore[arg-type]
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if name not in fields:
            raise SettingsError(f"{method} has no option {name!r}; {nearest_name(name, fields)}")
        checked[name] = _checked(f"{method} option {name}", value, hints[name], fields[name].metadata)
    return dataclasses.replace(start, **checked)  # type: ignore[type-var]


def _checked(name: str, value: Any, hint: Any, metadata: Mapping[str, Any]) -> Any:
    """Return the value as its field's type, or raise a SettingsError that names both."""
    if get_origin(hint) in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value not in choices:
            raise SettingsError(f"{name} is {value!r}; {nearest_name(str(value), map(str, choices))}")
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise SettingsError(f"{name} is {value!r}; give true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(f"{name} is {value!r}; give a number")
    if hint is int and value != int(value) if math.isfinite(value) else hint is int:
        raise SettingsError(f"{name} is {value!r}; give a whole number")
    least, most = metadata.get("least", -math.inf), metadata.get("most", math.inf)
    if not least <= value <= most:
        bounds = f"at least {least:g}" + (f" and at most {most:g}" if math.isfinite(most) else "")
        raise SettingsError(f"{name} is {value!r}; give {bounds}")
    return hint(value)

"""Environment names of options, and errors for unknown names and invalid values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usl_backend.errors import SettingsError, nearest_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError

PREFIX = "USL_"
_UNPREFIXED = ("label_studio_", "model_dir", "basic_auth_")
"""Prefixes of names that label-studio-ml and Label Studio users know; their variables get no `USL_`."""


def environment_name(name: str) -> str:
    """Return the environment variable of an option: `budget` -> `USL_BUDGET`, `model_dir` -> `MODEL_DIR`."""
    upper = name.upper()
    return upper if name.startswith(_UNPREFIXED) else PREFIX + upper


def unknown_setting(name: str, known: Iterable[str], *, what: str = "setting") -> SettingsError:
    """Return the error for an unknown name; it suggests the nearest known one."""
    return SettingsError(f'unknown {what} "{name}"; {nearest_name(name, known)}')


def invalid_value(
    error: ValidationError, *, secrets: Iterable[str] = (), environment: bool = False
) -> SettingsError:
    """Return pydantic's first fault as one sentence: the setting, its value and the reason.

    Parameters
    ----------
    error
        Error raised by pydantic.
    secrets
        Names whose value must not be shown.
    environment
        Name the setting by its environment variable.
    """
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    label = environment_name(name) if environment else name
    shown = "invalid" if name in secrets else repr(first.get("input"))
    return SettingsError(f"{label} is {shown}; {first['msg'].removeprefix('Value error, ')}")

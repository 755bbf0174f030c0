"""How an option is named in the environment, and what is said of a name or value that cannot be; no option is here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usl_backend.errors import SettingsError, nearest_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError

PREFIX = "USL_"
_FAMILIAR = ("label_studio_", "model_dir", "basic_auth_")
"""Beginnings of names whose variables users already know from label-studio-ml and Label Studio: no prefix."""


def environment_name(name: str) -> str:
    """Environment variable of an option: `budget` -> `USL_BUDGET`, `model_dir` -> `MODEL_DIR`."""
    upper = name.upper()
    return upper if name.startswith(_FAMILIAR) else PREFIX + upper


def unknown_setting(name: str, known: Iterable[str], *, what: str = "setting") -> SettingsError:
    """The error for a name nobody knows, with the nearest that somebody does."""
    return SettingsError(f'unknown {what} "{name}"; {nearest_name(name, known)}')


def invalid_value(
    error: ValidationError, *, secrets: Iterable[str] = (), environment: bool = False
) -> SettingsError:
    """The first fault that pydantic found, as one sentence: the setting, its value and what is wrong.

    Parameters
    ----------
    error
        As pydantic raised it.
    secrets
        Names whose value must not be repeated.
    environment
        Whether to call the setting by its environment variable.
    """
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    label = environment_name(name) if environment else name
    shown = "not usable" if name in secrets else repr(first.get("input"))
    return SettingsError(f"{label} is {shown}; {first['msg'].removeprefix('Value error, ')}")

"""One option, from which its flag and its row of the reference derive, and those of the host; all are in `table`."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, SecretStr

from usl_backend.settings.host import HostSettings
from usl_backend.settings.names import environment_name

Scope = Literal["host", "run", "method"]


@dataclass(frozen=True)
class Option:
    """Row of the settings table.

    Attributes
    ----------
    name
        JSON key, extra_params key and row of the reference; the flag and the variable derive from it.
    annotation
        Type of the value, without None.
    default
        Value if nothing is set.
    help
        One sentence.
    scope
        "host" (environment and flags only), "run", or "method" (an option of some selection methods).
    methods
        Methods that have it; empty unless the scope is "method".
    """

    name: str
    annotation: Any
    default: Any
    help: str
    scope: Scope
    methods: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """Command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def environment(self) -> str:
        """Environment variable."""
        return environment_name(self.name)

    @property
    def secret(self) -> bool:
        """True if the value must never be shown, stored or passed as an argument."""
        return self.annotation is SecretStr


def model_options(model: type[BaseModel], scope: Scope) -> list[Option]:
    """Return the rows of a settings model."""
    return [
        Option(name, _without_none(field.annotation), field.default, field.description or "", scope)
        for name, field in model.model_fields.items()
        if name != "options"
    ]


def _without_none(annotation: Any) -> Any:
    """Return `X` for `X | None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


HOST_OPTIONS: tuple[Option, ...] = tuple(model_options(HostSettings, "host"))
"""Options of the host; known without the selection methods, whose numerical library takes long to load."""

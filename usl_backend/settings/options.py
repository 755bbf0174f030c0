"""Table of all options, from which flags and their reference derive."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, SecretStr

from usl_backend.selection import METHODS
from usl_backend.settings.host import HostSettings
from usl_backend.settings.names import environment_name
from usl_backend.settings.run import RunSettings

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


def settings_table(scope: Scope | None = None) -> str:
    """Return the settings table of the reference, in Markdown."""
    rows = ["| setting | flag | environment | default | meaning |", "|---|---|---|---|---|"]
    for option in OPTIONS:
        if scope in (None, option.scope):
            default = "" if option.default in (None, "", ()) or option.secret else f"`{option.default}`"
            meaning = option.help + (f" ({', '.join(option.methods)})" if option.methods else "")
            flag = "" if option.secret else f"`{option.flag}`"
            rows.append(f"| `{option.name}` | {flag} | `{option.environment}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def _without_none(annotation: Any) -> Any:
    """Return `X` for `X | None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(annotation) if part is not type(None)]
        return rest[0] if len(rest) == 1 else annotation
    return annotation


def _model_options(model: type[BaseModel], scope: Scope) -> list[Option]:
    """Return the rows of a settings model."""
    return [
        Option(name, _without_none(field.annotation), field.default, field.description or "", scope)
        for name, field in model.model_fields.items()
        if name != "options"
    ]


def _method_options() -> list[Option]:
    """Return a row per option of the methods; a name that several methods share is one row."""
    rows: dict[str, Option] = {}
    for method in METHODS.values():
        for name, one in method.options().items():
            if name in rows:
                rows[name] = dataclasses.replace(rows[name], methods=(*rows[name].methods, method.name))
            else:
                rows[name] = Option(name, one.annotation, one.default, one.help, "method", (method.name,))
    return list(rows.values())


OPTIONS: tuple[Option, ...] = (
    *_model_options(RunSettings, "run"),
    *_method_options(),
    *_model_options(HostSettings, "host"),
)
"""Every option: run, then method, then host."""

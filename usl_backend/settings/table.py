"""Table of all options: those of runs, of the selection methods and of the host."""

from __future__ import annotations

import dataclasses

from usl_backend.selection import METHODS
from usl_backend.settings.options import HOST_OPTIONS, Option, Scope, model_options
from usl_backend.settings.run import RunSettings


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
    *model_options(RunSettings, "run"),
    *_method_options(),
    *HOST_OPTIONS,
)
"""Every option: run, then method, then host."""

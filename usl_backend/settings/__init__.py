"""Define every option once; flags, environment variables, extra_params and JSON keys derive from here.

A run option `budget` is the flag `--budget`, the environment variable `USL_BUDGET`, the extra_params and JSON key
`budget` and the row `budget` of the reference. The options of a selection method are read from its constructor, so
no name or default is written twice. Precedence: default < environment < extra_params < explicit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usl_backend.settings.budget import Budget
    from usl_backend.settings.host import HostSettings
    from usl_backend.settings.options import HOST_OPTIONS, Option, Scope
    from usl_backend.settings.run import RunSettings, check_extra_params, parse_extra_params
    from usl_backend.settings.table import OPTIONS, settings_table

__all__ = [
    "HOST_OPTIONS",
    "OPTIONS",
    "Budget",
    "HostSettings",
    "Option",
    "RunSettings",
    "Scope",
    "check_extra_params",
    "parse_extra_params",
    "settings_table",
]

_HOMES = {
    "HOST_OPTIONS": "options",
    "OPTIONS": "table",
    "Budget": "budget",
    "HostSettings": "host",
    "Option": "options",
    "RunSettings": "run",
    "Scope": "options",
    "check_extra_params": "run",
    "parse_extra_params": "run",
    "settings_table": "table",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use: the settings of the host need no selection method."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

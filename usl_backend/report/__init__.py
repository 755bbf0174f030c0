"""What people look at after a run: map, gallery, why each pick, and whether to trust it. Nothing is served here.

`build` computes a report once and keeps it in the run's directory; `load` reads it; `write_report` makes
one file of it that needs no server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usl_backend.report.compute import build
    from usl_backend.report.record import Report, load
    from usl_backend.report.write import write_report

__all__ = ["Report", "build", "load", "write_report"]

_HOMES = {"Report": "record", "build": "compute", "load": "record", "write_report": "write"}


def __getattr__(name: str) -> Any:
    """Load a public name's file when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Report of a run: map, gallery, reasons for each pick, and evidence that the picks help.

`build` computes a report once and stores it in the run's directory; `load` reads it; `write_report` writes it as
one HTML file that needs no server.
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
    """Import the module of a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

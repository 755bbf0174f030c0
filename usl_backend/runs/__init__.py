"""Crash-safe storage: run records in SQLite, run artifacts, locks, counters and retention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usl_backend.runs.record import (
    STAGES,
    ProjectSetup,
    Run,
    RunState,
    parse_project_key,
    project_key,
)
from usl_backend.runs.store import RunStore

if TYPE_CHECKING:
    from usl_backend.runs.artifacts import ManifestRow, RunFiles

__all__ = [
    "STAGES",
    "ManifestRow",
    "ProjectSetup",
    "Run",
    "RunFiles",
    "RunState",
    "RunStore",
    "parse_project_key",
    "project_key",
]


def __getattr__(name: str) -> Any:
    """Import the artifacts on first use: they load numpy, which the records of runs need not."""
    if name not in ("ManifestRow", "RunFiles"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from usl_backend.runs import artifacts

    return getattr(artifacts, name)

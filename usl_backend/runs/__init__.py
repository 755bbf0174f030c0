"""Crash-safe storage: run records in SQLite, run artifacts, locks, counters and retention."""

from __future__ import annotations

from usl_backend.runs.artifacts import ManifestRow, RunFiles
from usl_backend.runs.record import (
    STAGES,
    ProjectSetup,
    Run,
    RunState,
    parse_project_key,
    project_key,
)
from usl_backend.runs.store import RunStore

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

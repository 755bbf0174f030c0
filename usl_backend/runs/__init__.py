"""What survives a crash: the record of each run, its artifacts, embedding shards. Nothing is computed."""

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

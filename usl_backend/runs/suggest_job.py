"""Record of the last job beside a run, such as a request for suggestions; what becomes of it lies in Label Studio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from usl_backend.runs.artifacts import atomic_write
from usl_backend.runs.lock import held

if TYPE_CHECKING:
    from pathlib import Path

    from usl_backend.runs.artifacts import RunFiles

Kind = Literal["suggest", "tend"]
"""Suggestions; or what extends, publishes again or resets the queue."""
STAGES: Final = ("suggest", "publish", "annotate")


@dataclass(frozen=True)
class SuggestJob:
    """A request for suggestions, or for a change of the queue, and how far it is.

    Attributes
    ----------
    run
        The run.
    request
        Attributes of `suggesting.request.SuggestRequest`; for other jobs `{"deed": "extend"}`.
    state
        "running", "done" or "failed".
    stage, step, done, total
        As in `Run`; the stages are "suggest", "publish" and "annotate".
    error
        {"type", "message"} of a failure.
    result
        `SuggestOutcome.to_json` once it is done, or the same of another job.
    started_at, finished_at
        Unix seconds.
    """

    run: str
    request: Mapping[str, Any] = field(default_factory=dict)
    state: str = "running"
    stage: str | None = None
    step: str | None = None
    done: int = 0
    total: int = 0
    error: Mapping[str, str] | None = None
    result: Mapping[str, Any] | None = None
    started_at: float = 0.0
    finished_at: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON values."""
        made: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return made


_ADAPTER: TypeAdapter[SuggestJob] = TypeAdapter(SuggestJob)
_LOST: Final = {
    "type": "ProcessDied",
    "message": "its process ended without a result; {again} again, what was written is kept",
}


def lock_of(files: RunFiles, kind: Kind = "suggest") -> Path:
    """Return the lock file, held while the job is done by a server's process."""
    return files.directory / f"{kind}.lock"


def log_of(files: RunFiles, kind: Kind) -> Path:
    """Return the log of the job's process."""
    return files.directory / f"{kind}.txt"


def write_job(files: RunFiles, job: SuggestJob, kind: Kind = "suggest") -> None:
    """Replace the record."""
    with atomic_write(files.directory / f"{kind}.json") as stream:
        stream.write(_ADAPTER.dump_json(job))


def read_job(files: RunFiles, kind: Kind = "suggest") -> SuggestJob | None:
    """Return the record, None if there is none; one whose process died has failed."""
    alive = held(lock_of(files, kind))
    try:
        job = _ADAPTER.validate_json((files.directory / f"{kind}.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    if job.state != "running" or alive:
        return job
    again = str(job.request.get("deed", "suggest"))
    return replace(job, state="failed", error={**_LOST, "message": _LOST["message"].format(again=again)})

"""Record of the last request for suggestions of a run; what becomes of them lies in Label Studio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from usl_backend.runs.artifacts import atomic_write
from usl_backend.runs.lock import held

if TYPE_CHECKING:
    from pathlib import Path

    from usl_backend.runs.artifacts import RunFiles

NAME: Final = "suggest.json"
LOG: Final = "suggest.txt"
LOCK: Final = "suggest.lock"
STAGES: Final = ("suggest", "publish", "annotate")


@dataclass(frozen=True)
class SuggestJob:
    """A request for suggestions, and how far it is.

    Attributes
    ----------
    run
        The run.
    request
        Attributes of `suggesting.request.SuggestRequest`.
    state
        "running", "done" or "failed".
    stage, step, done, total
        As in `Run`; the stages are "suggest", "publish" and "annotate".
    error
        {"type", "message"} of a failure.
    result
        `SuggestOutcome.to_json` once it is done.
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
    "message": "its process ended without a result; suggest again, what was written is kept",
}


def lock_of(files: RunFiles) -> Path:
    """Return the lock file, held while suggestions are made by a server's process."""
    return files.directory / LOCK


def write_job(files: RunFiles, job: SuggestJob) -> None:
    """Replace the record."""
    with atomic_write(files.directory / NAME) as stream:
        stream.write(_ADAPTER.dump_json(job))


def read_job(files: RunFiles) -> SuggestJob | None:
    """Return the record, None if there is none; one whose process died has failed."""
    alive = held(lock_of(files))
    try:
        job = _ADAPTER.validate_json((files.directory / NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return replace(job, state="failed", error=_LOST) if job.state == "running" and not alive else job

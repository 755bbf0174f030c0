"""Record of the tasks that were queued behind a run's after it was done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from usl_backend.runs.artifacts import atomic_write

if TYPE_CHECKING:
    from usl_backend.runs.artifacts import RunFiles

NAME: Final = "extensions.json"


@dataclass(frozen=True)
class ExtensionNote:
    """One call of extend.

    Attributes
    ----------
    at
        Unix seconds.
    tasks, queued
        New tasks found, and those of them that were queued by this call.
    skipped
        New tasks that could not be read.
    new_run, reason
        As in `pipeline.extend.Extension`.
    newest
        Highest id of the unlabeled tasks that the project had then: those that were not queued have a reason, and do
        not wait. 0 in old records.
    """

    at: float
    tasks: int
    queued: int
    skipped: int
    new_run: bool
    reason: str
    newest: int = 0


_ADAPTER: TypeAdapter[tuple[ExtensionNote, ...]] = TypeAdapter(tuple[ExtensionNote, ...])


def note_extension(files: RunFiles, note: ExtensionNote) -> None:
    """Add a call to the record."""
    with atomic_write(files.directory / NAME) as stream:
        stream.write(_ADAPTER.dump_json((*read_extensions(files), note)))


def read_extensions(files: RunFiles) -> tuple[ExtensionNote, ...]:
    """Return the calls, the first one first; none if there is no readable record."""
    try:
        return _ADAPTER.validate_json((files.directory / NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return ()

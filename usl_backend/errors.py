"""Every error this package raises on purpose; foreign errors are translated in `studio/`, `media.py`, `encoders/`.

A message names the thing, its value and the remedy in one sentence that a user can act on without a stack trace.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that nobody knows: the nearest known one, or all of them where none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f'did you mean "{close[0]}"?' if close else "known are " + (", ".join(names) or "none")


class USLError(Exception):
    """Root of the errors of this package."""


class InputError(USLError):
    """What the caller asked for cannot be done as asked: a setting, an argument, a file, an array."""


class SettingsError(InputError):
    """A setting has an unknown name or an impossible value."""


class SelectionError(InputError):
    """Embeddings or budget that no selection can be made from."""


class EncoderError(USLError):
    """An encoder is unknown, does not fit the data, or its weights are missing."""


class MediaError(USLError):
    """One instance's bytes cannot be had or decoded; the instance is set aside and the run goes on."""


class StudioError(USLError):
    """Label Studio refused, failed or answered something unexpected."""


class StudioUnreachableError(StudioError):
    """No answer from Label Studio at the configured URL (connection refused, time-out, name not found)."""


class StudioTroubleError(StudioError):
    """Label Studio, or a proxy before it, could not answer properly, also when asked again.

    Attributes
    ----------
    status : int
        Of the last answer: 429, 5xx, or 2xx where its body was broken.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class StudioAuthError(StudioError):
    """Label Studio does not accept the configured token."""


class StudioNotFoundError(StudioError):
    """Label Studio knows no such project, task or view."""


class RunError(USLError):
    """A run cannot be started, found, resumed or cancelled."""


class StorageError(RunError):
    """The data directory is full, read-only or otherwise refuses what has to be written."""


class UnknownRunError(RunError):
    """There is no run of that id."""


class ActiveRunError(RunError):
    """The project has a run that is queued or running; `run_id` names it."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class CancelledError(USLError):
    """Somebody asked the run to stop; raised inside the run's own process."""


class ExportError(USLError):
    """A split cannot be written."""

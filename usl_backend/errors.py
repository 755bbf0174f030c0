"""Errors that this package raises; errors of other libraries are translated in `studio/`, `media/` and `encoders/`.

A message names the problem, the value and the remedy, so that a user can act on it without a stack trace.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return the remedy for an unknown name: suggest the nearest known one, or list all if none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f'did you mean "{close[0]}"?' if close else "known are " + (", ".join(names) or "none")


class USLError(Exception):
    """Base class of this package's errors."""


class InputError(USLError):
    """Invalid input from the caller: a setting, an argument, a file or an array."""


class SettingsError(InputError):
    """A setting has an unknown name or an invalid value."""


class SelectionError(InputError):
    """The embeddings or the budget allow no selection."""


class EncoderError(USLError):
    """An encoder is unknown, does not support the data, or its weights are missing."""


class MediaError(USLError):
    """An instance cannot be read or decoded; the run continues without it."""


class MediaHostError(USLError):
    """Hosts of media are busy or away, and too many of a pool's files are missing; they may be had later."""


class StudioError(USLError):
    """Label Studio refused a request, failed or gave an unexpected answer."""


class StudioUnreachableError(StudioError):
    """No answer from Label Studio at the configured URL (connection refused, time-out, name not found)."""


class StudioTroubleError(StudioError):
    """Label Studio, or a proxy in front of it, failed to answer, also after retries.

    Attributes
    ----------
    status : int
        HTTP status of the last answer: 429, 5xx, or 2xx if its body was broken.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class StudioAuthError(StudioError):
    """Label Studio does not accept the configured token."""


class SupersededError(StudioError):
    """Another installation of this package switched the project to its own queue meanwhile."""


class StudioNotFoundError(StudioError):
    """Label Studio has no such project, task or view."""


class RunError(USLError):
    """A run cannot be started, found, resumed or cancelled."""


class StorageError(RunError):
    """The data directory cannot be read or written: full, read-only, damaged or another failure."""


class UnknownRunError(RunError):
    """There is no run with that id."""


class ActiveRunError(RunError):
    """The project already has a queued or running run, `run_id`."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class CancelledError(USLError):
    """The run was cancelled; raised inside the run's process."""


class ExportError(USLError):
    """A split cannot be written."""

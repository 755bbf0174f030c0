"""Result of one check, and the remedy for an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from usl_backend.errors import StudioError, USLError

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check.

    Attributes
    ----------
    name
        Subject of the check.
    status
        `ok`; `warning`: runs work, but not as one might expect; `failed`: a run would fail.
    detail
        Finding, for people.
    remedy
        Command or instruction to copy; empty if all is well.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def remedy_of(error: USLError, *, studio_url: str) -> str:
    """Return a command to copy, beyond the remedy in the message, with the address that is configured, if any."""
    settings = f"LABEL_STUDIO_URL={studio_url or 'http://localhost:8080'} LABEL_STUDIO_API_KEY=..."
    return f"{settings} usl-backend doctor" if isinstance(error, StudioError) else f"export {settings}"

"""One line of a diagnosis, and what to say of an error; nothing is looked at here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from usl_backend.errors import StudioError, USLError

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis.

    Attributes
    ----------
    name
        What was looked at.
    status
        `ok`; `warning`: runs, but not as one might expect; `failed`: a run would fail.
    detail
        What was found.
    remedy
        What to do, to be copied; empty when all is well.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def remedy_of(error: USLError) -> str:
    """What to copy, beyond what the message says."""
    if isinstance(error, StudioError):
        return "LABEL_STUDIO_URL=http://... LABEL_STUDIO_API_KEY=... usl-backend doctor"
    return "export LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=..."

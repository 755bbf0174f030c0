"""Stored coverage over budgets of a run's pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from usl_backend.evaluation.budgets import BudgetCurve
from usl_backend.runs.artifacts import atomic_write

if TYPE_CHECKING:
    from usl_backend.runs.artifacts import RunFiles

NAME: Final = "budgets.json"
_ADAPTER: TypeAdapter[BudgetCurve] = TypeAdapter(BudgetCurve)


def save_budgets(files: RunFiles, curve: BudgetCurve) -> None:
    """Store the curve with the run."""
    with atomic_write(files.directory / NAME) as stream:
        stream.write(_ADAPTER.dump_json(curve))


def load_budgets(files: RunFiles) -> BudgetCurve | None:
    """Return the stored curve; None if it is missing or unreadable."""
    try:
        return _ADAPTER.validate_json((files.directory / NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None

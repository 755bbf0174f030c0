"""What a method that trains says of its training (USL-T), for the trust page. Words are in the template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from usl_backend.report.record import TrainingFigures

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADAPTER: TypeAdapter[TrainingFigures] = TypeAdapter(TrainingFigures)


def training_figures(diagnostics: Mapping[str, Any]) -> TrainingFigures | None:
    """Figures of the training behind a selection.

    Parameters
    ----------
    diagnostics
        Of the selection.

    Returns
    -------
    TrainingFigures or None
        None where nothing was trained, or where what is told of it is not understood.
    """
    told = diagnostics.get("training")
    if not isinstance(told, dict) or not told.get("trained"):
        return None
    known = {name: told[name] for name in TrainingFigures.__dataclass_fields__ if name in told}
    try:
        return _ADAPTER.validate_python(known)
    except ValidationError:
        return None

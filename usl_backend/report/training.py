"""Training figures of USL-T for the trust page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from usl_backend.report.record import TrainingFigures

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADAPTER: TypeAdapter[TrainingFigures] = TypeAdapter(TrainingFigures)


def training_figures(diagnostics: Mapping[str, Any]) -> TrainingFigures | None:
    """Return the training figures of a selection.

    Parameters
    ----------
    diagnostics
        Diagnostics of the selection.

    Returns
    -------
    TrainingFigures or None
        None if nothing was trained, or if the diagnostics are from another version.
    """
    training = diagnostics.get("training")
    if not isinstance(training, dict) or not training.get("trained"):
        return None
    known = {name: training[name] for name in TrainingFigures.__dataclass_fields__ if name in training}
    try:
        return _ADAPTER.validate_python(known)
    except ValidationError:
        return None

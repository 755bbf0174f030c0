"""Decide which tasks people should label first.

The public names below are imported on first use, so `import usl_backend` takes milliseconds and loads neither
torch nor flask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usl_backend.version import VERSION

if TYPE_CHECKING:
    from usl_backend.exports import export_split
    from usl_backend.instances import Instance, Pool
    from usl_backend.selection import USL, USLT, Selection, Selector, score_new_rows
    from usl_backend.suggestions import (
        Acceptance,
        Calibration,
        Control,
        LabelCheck,
        Share,
        Suggestions,
        accept,
        accuracy,
        calibrate,
        label_check,
        suggest,
        unseen_share,
    )

__version__ = VERSION
__all__ = [
    "USL",
    "USLT",
    "Acceptance",
    "Calibration",
    "Control",
    "Instance",
    "LabelCheck",
    "Pool",
    "Selection",
    "Selector",
    "Share",
    "Suggestions",
    "__version__",
    "accept",
    "accuracy",
    "calibrate",
    "export_split",
    "label_check",
    "score_new_rows",
    "suggest",
    "unseen_share",
]

_HOMES = {
    "Acceptance": "suggestions",
    "Calibration": "suggestions",
    "Control": "suggestions",
    "Instance": "instances",
    "LabelCheck": "suggestions",
    "Pool": "instances",
    "Selection": "selection",
    "Selector": "selection",
    "Share": "suggestions",
    "Suggestions": "suggestions",
    "USL": "selection",
    "USLT": "selection",
    "accept": "suggestions",
    "accuracy": "suggestions",
    "calibrate": "suggestions",
    "export_split": "exports",
    "label_check": "suggestions",
    "score_new_rows": "selection",
    "suggest": "suggestions",
    "unseen_share": "suggestions",
}


def __getattr__(name: str) -> object:
    """Import a public name from the room it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted(__all__)

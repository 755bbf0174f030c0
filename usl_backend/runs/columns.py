"""Conversion between the values of a `Run` and their SQLite columns."""

from __future__ import annotations

import json
from typing import Any, Final

from usl_backend.runs.record import Run, RunState
from usl_backend.runs.summary import summary_from_json

COLUMNS: Final = tuple(Run.__dataclass_fields__)
_JSON: Final = frozenset({"settings", "error", "versions", "target"})


def stored(name: str, value: Any) -> Any:
    """Convert a value to its column type."""
    if name == "summary":
        return json.dumps({} if value is None else value.to_json())
    if name in _JSON and value is not None:
        return json.dumps(value)
    if isinstance(value, str):
        return proper(value)
    return int(value) if isinstance(value, bool) else value


def proper(text: str) -> str:
    r"""Write characters that are not Unicode as `\udcef`: a file name has them where it is not UTF-8.

    Neither SQLite nor a browser takes them, nor does Label Studio, which fails to show what it has stored.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def loaded(name: str, value: Any) -> Any:
    """Inverse of `stored`."""
    if name in _JSON and value is not None:
        return json.loads(value)
    if name == "summary":
        return summary_from_json(json.loads(value))
    if name == "state":
        return RunState(value)
    return bool(value) if name == "dry_run" else value

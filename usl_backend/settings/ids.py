"""Lists of ids in settings: separated by commas, as a JSON list, or in a file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from usl_backend.errors import SettingsError

MOST_IDS: Final = 10_000
"""Ids in a list."""
_LONGEST: Final = 1_000
"""Characters of an id; the ids of a folder are paths."""
_LARGEST: Final = 16 * 2**20
"""Bytes of a file of ids."""
_COLUMNS: Final = ("id", "task", "task_id", "key", "name")
"""Columns of a CSV file that hold ids, by precedence; else the first one does."""
_HELP: Final = "give ids separated by commas, such as 7,12, or @FILE"


def parse_ids(value: object, *, name: str) -> tuple[str, ...]:
    """Read ids, each once, in the order given.

    Parameters
    ----------
    value
        "7, 12", 7, a list of texts and numbers, "" or None.
    name
        Of the setting, for messages.

    Raises
    ------
    SettingsError
        The value has another form, names a file, or is too long.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        if value.strip().startswith("@"):
            raise SettingsError(
                f'{name} is "{value[:80]}"; only the command line and the environment of the backend may name a file, '
                "give the ids themselves"
            )
        value = value.split(",")
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, Sequence) or not all(
        isinstance(one, str | int) and not isinstance(one, bool) for one in value
    ):
        raise SettingsError(f"{name} is {str(value)[:80]!r}; {_HELP}")
    found = tuple(dict.fromkeys(text for one in value if (text := str(one).strip())))
    if len(found) > MOST_IDS:
        raise SettingsError(f"{name} has {len(found):,} ids; give at most {MOST_IDS:,}")
    long = next((one for one in found if len(one) > _LONGEST), None)
    if long is not None:
        raise SettingsError(f'{name} has the id "{long[:40]}..." of {len(long):,} characters; {_HELP}')
    return found


def read_ids(value: object, *, name: str) -> tuple[str, ...]:
    """Read ids as `parse_ids` does, or from a file of this host: "@FILE", with one id a line, or a CSV file.

    A CSV file with a column `id`, `task`, `task_id`, `key` or `name` gives that column, any other its first one.

    Raises
    ------
    SettingsError
        As `parse_ids`, or the file cannot be read.
    """
    if not isinstance(value, str) or not value.strip().startswith("@"):
        return parse_ids(value, name=name)
    path = Path(value.strip()[1:]).expanduser()
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{name} names the file {path}, which cannot be read ({error}); {_HELP}"
        ) from None
    if len(content) > _LARGEST:
        raise SettingsError(
            f"{name} names the file {path}, which is larger than {_LARGEST >> 20} MiB; {_HELP}"
        )
    return parse_ids(_column(lines) if path.suffix.lower() == ".csv" else lines, name=name)


def check_steering(pin: Sequence[str], exclude: Sequence[str]) -> None:
    """Raise SettingsError for an id that is pinned and excluded."""
    barred = set(exclude)
    both = [one for one in pin if one in barred]
    if both:
        raise SettingsError(f'"{both[0]}" is pinned and excluded; take it out of pin or out of exclude')


def _column(lines: Sequence[str]) -> list[str]:
    """Return the ids of a CSV file."""
    table = [row for row in csv.reader(lines) if row]
    if not table:
        return []
    head = [name.strip().lower() for name in table[0]]
    column = next((head.index(name) for name in _COLUMNS if name in head), None)
    if column is None:
        return [row[0] for row in table]
    return [row[column] for row in table[1:] if len(row) > column]

"""The formats `json`, `jsonl` and `csv`: the files labeled.* and unlabeled.* with one row per task."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from usl_backend.exports.split import Contents, Row, Split, Usage

PARTS = ("labeled", "unlabeled")
"""Names of the two files, without extension."""

COLUMNS = ("index", "task", "source", "file", "role", "rank")
"""Columns of both files; labeled files also have `label` as the last one."""

SEVERAL = "sources"
"""Further column, a JSON list, where a task shows several images or texts: all of them, `source` being the first."""


def write_json(split: Split, directory: Path) -> Usage:
    """Write `labeled.json` and `unlabeled.json`: lists of objects, keys as in `COLUMNS`."""
    for name, rows in _parts(split):
        with (directory / f"{name}.json").open("w", encoding="utf-8") as stream:
            stream.write("[")
            for place, row in enumerate(rows):
                stream.write((",\n" if place else "\n") + _object(row, _columns(name, row.more)))
            stream.write("\n]\n")
    return {}


def write_jsonl(split: Split, directory: Path) -> Usage:
    """Write `labeled.jsonl` and `unlabeled.jsonl`: an object per line, keys as in `COLUMNS`."""
    for name, rows in _parts(split):
        with (directory / f"{name}.jsonl").open("w", encoding="utf-8") as stream:
            for row in rows:
                stream.write(_object(row, _columns(name, row.more)) + "\n")
    return {}


def write_csv(split: Split, directory: Path) -> Usage:
    """Write `labeled.csv` and `unlabeled.csv` with a header; RFC 4180, UTF-8, rank empty outside the queue."""
    for name, rows in _parts(split):
        with (directory / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            columns = _columns(name, any(row.more for row in rows))
            writer.writerow(columns)
            writer.writerows(_values(rows, columns))
    return {}


def read_json(directory: Path, manifest: Usage) -> Contents:  # noqa: ARG001 - one signature for all
    """Read both files with `json.load`."""
    parts = [json.loads((directory / f"{name}.json").read_text(encoding="utf-8")) for name in PARTS]
    return _contents(*parts)


def read_jsonl(directory: Path, manifest: Usage) -> Contents:  # noqa: ARG001 - one signature for all
    """Read both files as JSON lines."""
    parts = []
    for name in PARTS:
        with (directory / f"{name}.jsonl").open(encoding="utf-8", newline="\n") as stream:
            parts.append([json.loads(line) for line in stream])
    return _contents(*parts)


def read_csv(directory: Path, manifest: Usage) -> Contents:  # noqa: ARG001 - one signature for all
    """Read both files with `csv.DictReader`."""
    parts = []
    for name in PARTS:
        with (directory / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            parts.append(list(csv.DictReader(stream)))
    return _contents(*parts)


def _parts(split: Split) -> Iterable[tuple[str, tuple[Row, ...]]]:
    """Return name and rows of both files."""
    return zip(PARTS, (split.labeled, split.unlabeled), strict=True)


def _columns(name: str, several: object) -> tuple[str, ...]:
    """Return the columns of a file, with one more where tasks show several images or texts."""
    return (*COLUMNS, *([SEVERAL] if several else []), *(["label"] if name == "labeled" else []))


def _object(row: Row, columns: tuple[str, ...]) -> str:
    """Format a row as a JSON object on one line."""
    return json.dumps({column: getattr(row, column) for column in columns}, ensure_ascii=False)


def _values(rows: Iterable[Row], columns: tuple[str, ...]) -> Iterator[list[object]]:
    """Yield the rows as lists."""
    for row in rows:
        values = [getattr(row, column) for column in columns]
        yield [json.dumps(one, ensure_ascii=False) if isinstance(one, tuple) else one for one in values]


def _contents(labeled: list[dict[str, Any]], unlabeled: list[dict[str, Any]]) -> Contents:
    """Convert the rows of both files to `Contents`."""
    return Contents(
        tuple((row["file"] or row["source"], row["label"]) for row in labeled),
        tuple(row["file"] or row["source"] for row in unlabeled),
        inside=any(row["file"] for row in [*labeled, *unlabeled]),
    )

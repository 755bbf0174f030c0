"""The formats `json`, `jsonl` and `csv`: labeled.*, unlabeled.* and, if asked for, suggested.* with a row per task."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from usl_backend.exports.split import Contents, Row, Split, Usage

PARTS = ("labeled", "unlabeled")
"""Names of the two files, without extension."""

COLUMNS = ("index", "task", "source", "file", "role", "rank", "run")
"""Columns of both files.

Labeled files also have `label`, and `labels` after it where tasks may have several classes; then `label` is empty for
a task that has more than one.
"""
SUGGESTED = "suggested"
"""Name of the file of suggestions; its rows stand in the unlabeled file too."""

SEVERAL = "sources"
"""Further column, a JSON list, where a task shows several images or texts: all of them, `source` being the first."""


def write_json(split: Split, directory: Path) -> Usage:
    """Write `labeled.json` and `unlabeled.json`: lists of objects, keys as in `COLUMNS`.

    Where there is more than classes, `annotations` are those of the task as Label Studio holds them.
    """
    for name, rows in _parts(split):
        with (directory / f"{name}.json").open("w", encoding="utf-8") as stream:
            stream.write("[")
            for place, row in enumerate(rows):
                columns = _columns(name, split, row.more)
                stream.write((",\n" if place else "\n") + _object(row, split, columns))
            stream.write("\n]\n")
    return {}


def write_jsonl(split: Split, directory: Path) -> Usage:
    """Write `labeled.jsonl` and `unlabeled.jsonl`: an object per line, keys as in `COLUMNS`."""
    for name, rows in _parts(split):
        with (directory / f"{name}.jsonl").open("w", encoding="utf-8") as stream:
            for row in rows:
                stream.write(_object(row, split, _columns(name, split, row.more)) + "\n")
    return {}


def write_csv(split: Split, directory: Path) -> Usage:
    """Write `labeled.csv` and `unlabeled.csv` with a header; RFC 4180, UTF-8, `labels` a JSON list."""
    for name, rows in _parts(split):
        with (directory / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            columns = _columns(name, split, any(row.more for row in rows))
            writer.writerow(columns)
            writer.writerows(_values(rows, columns))
    return {}


def read_json(directory: Path, manifest: Usage) -> Contents:
    """Read the files with `json.load`."""
    parts = [
        json.loads((directory / f"{name}.json").read_text(encoding="utf-8")) for name in _names(manifest)
    ]
    return _contents(*parts)


def read_jsonl(directory: Path, manifest: Usage) -> Contents:
    """Read the files as JSON lines."""
    parts = []
    for name in _names(manifest):
        with (directory / f"{name}.jsonl").open(encoding="utf-8", newline="\n") as stream:
            parts.append([json.loads(line) for line in stream])
    return _contents(*parts)


def read_csv(directory: Path, manifest: Usage) -> Contents:
    """Read the files with `csv.DictReader`."""
    parts = []
    for name in _names(manifest):
        with (directory / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            parts.append(list(csv.DictReader(stream)))
    for row in parts[0]:
        if "labels" in row:
            row["labels"] = json.loads(row["labels"])
    return _contents(*parts)


def _parts(split: Split) -> Iterable[tuple[str, tuple[Row, ...]]]:
    """Return name and rows of the files."""
    yield from zip(PARTS, (split.labeled, split.unlabeled), strict=True)
    if split.suggested is not None:
        yield SUGGESTED, split.placed_suggestions()


def _names(manifest: Usage) -> tuple[str, ...]:
    """Return the names of the files."""
    return (*PARTS, SUGGESTED) if SUGGESTED in manifest["contents"] else PARTS


def _columns(name: str, split: Split, several: object) -> tuple[str, ...]:
    """Return the columns of a file, with one more where tasks show several images or texts."""
    columns = (*COLUMNS, *([SEVERAL] if several else []))
    if name == SUGGESTED:
        return (*columns, "label", "confidence", "accepted")
    if name != "labeled":
        return columns
    return (*columns, "label", "labels") if split.holds == "classes" else (*columns, "label")


def _object(row: Row, split: Split, columns: tuple[str, ...]) -> str:
    """Format a row as a JSON object on one line."""
    text = json.dumps({column: getattr(row, column) for column in columns}, ensure_ascii=False)
    if split.annotations is None:
        return text
    return f'{text[:-1]}, "annotations": {split.annotations.get(row.task, "[]")}}}'


def _values(rows: Iterable[Row], columns: tuple[str, ...]) -> Iterator[list[object]]:
    """Yield the rows as lists."""
    for row in rows:
        values = [getattr(row, column) for column in columns]
        yield [json.dumps(one, ensure_ascii=False) if isinstance(one, tuple) else one for one in values]


def _labels(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes of a row that was read."""
    return tuple(row.get("labels") or ([] if row["label"] is None else [row["label"]]))


def _contents(
    labeled: list[dict[str, Any]], unlabeled: list[dict[str, Any]], suggested: Sequence[dict[str, Any]] = ()
) -> Contents:
    """Convert the rows of the files to `Contents`."""
    return Contents(
        tuple((row["file"] or row["source"], _labels(row)) for row in labeled),
        tuple(row["file"] or row["source"] for row in unlabeled),
        inside=any(row["file"] for row in [*labeled, *unlabeled]),
        suggested=tuple(
            (row["file"] or row["source"], row["label"], float(row["confidence"])) for row in suggested
        ),
    )

"""The formats `json` and `csv`: labeled.*, unlabeled.*, one row per task. Other families have files of their own."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from usl_backend.exports.split import Row, Split

COLUMNS = ("index", "task", "source", "role", "rank")
"""Columns of both files; labeled files have `label` behind them."""


def write_json(split: Split, directory: Path) -> None:
    """Write `labeled.json` and `unlabeled.json`: lists of objects, keys as in `COLUMNS`.

    Parameters
    ----------
    split
        What is written.
    directory
        Exists and is empty.
    """
    for name, rows in (("labeled", split.labeled), ("unlabeled", split.unlabeled)):
        objects = [{column: asdict(row)[column] for column in _columns(name)} for row in rows]
        text = "[\n" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in objects) + "\n]\n"
        (directory / f"{name}.json").write_text(text, encoding="utf-8")


def write_csv(split: Split, directory: Path) -> None:
    """Write `labeled.csv` and `unlabeled.csv` with a header; RFC 4180, UTF-8, empty where there is no rank.

    Parameters
    ----------
    split
        What is written.
    directory
        Exists and is empty.
    """
    for name, rows in (("labeled", split.labeled), ("unlabeled", split.unlabeled)):
        with (directory / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(_columns(name))
            writer.writerows(_values(rows, _columns(name)))


def _columns(name: str) -> tuple[str, ...]:
    """Columns of a file."""
    return (*COLUMNS, "label") if name == "labeled" else COLUMNS


def _values(rows: Sequence[Row], columns: tuple[str, ...]) -> list[list[object]]:
    """Rows as lists."""
    return [[getattr(row, column) for column in columns] for row in rows]

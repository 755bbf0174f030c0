"""Hugging Face `imagefolder`: files with metadata, and a dataset card that names both splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from usl_backend.errors import ExportError
from usl_backend.exports.split import Contents, Row, Split, Usage

if TYPE_CHECKING:
    from usl_backend.exports.media import Layout, Part

METADATA = "metadata.jsonl"


def by_part(split: Split) -> Layout:  # noqa: ARG001 - one signature for all formats
    """Return the layout with one folder per split, since metadata must be above its files."""

    def place(row: Row, part: Part) -> str:
        return f"{part}/{row.task}"

    return place


def write_huggingface(split: Split, directory: Path) -> Usage:
    """Write `labeled/metadata.jsonl`, `unlabeled/metadata.jsonl` and the card `README.md`.

    `load_dataset(directory)` returns the splits `labeled` and `unlabeled` with the columns image, label (class index;
    -1 if there is none, as usual there), task, role and rank (-1 outside the run's queue). Nulls are not used: a
    column of only nulls would have different types in the two splits, which is refused.

    Raises
    ------
    ExportError
        The export has no files.
    """
    for part, rows in (("labeled", split.labeled), ("unlabeled", split.unlabeled)):
        if any(row.file is None for row in rows):
            raise ExportError(
                "imagefolder reads only files inside the export; use --media link or --media copy, or choose jsonl"
            )
        (directory / part).mkdir(exist_ok=True)
        with (directory / part / METADATA).open("w", encoding="utf-8", newline="\n") as stream:
            for row in rows:
                entry = {
                    "file_name": str(row.file).removeprefix(f"{part}/"),
                    "label": split.places[str(row.label)] if part == "labeled" else -1,
                    "task": row.task,
                    "role": row.role,
                    "rank": -1 if row.rank is None else row.rank,
                }
                stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
    (directory / "README.md").write_text(_card(split), encoding="utf-8")
    return {
        "call": "load_dataset(directory).cast_column('label', ClassLabel(names=classes))",
        "splits": ["labeled", "unlabeled"],
    }


def read_huggingface(directory: Path, manifest: Usage) -> Contents:
    """Read the folders as `imagefolder` does: every file needs an entry, and every entry a file."""
    parts: dict[str, list[tuple[str, int]]] = {}
    for part in manifest["usage"]["splits"]:
        with (directory / part / METADATA).open(encoding="utf-8", newline="\n") as stream:
            entries = [json.loads(line) for line in stream]
        parts[part] = [(f"{part}/{entry['file_name']}", entry["label"]) for entry in entries]
        files = {path.name for path in (directory / part).iterdir()} - {METADATA}
        if odd := files ^ {entry["file_name"] for entry in entries}:
            raise ExportError(
                f"{part}: {len(odd)} files without metadata or metadata without files, such as {min(odd)}"
            )
    if any(label != -1 for _, label in parts["unlabeled"]):
        raise ExportError("unlabeled: a row has a label; -1 stands for none")
    classes = manifest["classes"]
    labeled = tuple((file, classes[label] if label >= 0 else "-1") for file, label in parts["labeled"])
    return Contents(labeled, tuple(file for file, _ in parts["unlabeled"]), inside=True)


def _card(split: Split) -> str:
    """Return the dataset card; its YAML header is written as JSON, a subset of YAML."""
    parts = [part for part, rows in (("labeled", split.labeled), ("unlabeled", split.unlabeled)) if rows]
    files = [{"split": part, "path": f"{part}/**"} for part in parts]
    head = json.dumps([{"config_name": "default", "data_files": files}])
    return f"---\nconfigs: {head}\n---\n\nWritten by usl-backend; `manifest.json` says from what.\n"

"""Hugging Face datasets: files with metadata or lines of texts, and a dataset card that names both splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from usl_backend.errors import ExportError
from usl_backend.exports.split import Contents, Row, Split, Usage

if TYPE_CHECKING:
    from usl_backend.exports.media import Layout, Part
    from usl_backend.instances import Modality

METADATA = "metadata.jsonl"


def by_part(split: Split) -> Layout:  # noqa: ARG001 - one signature for all formats
    """Return the layout with one folder per split, since metadata must be above its files."""

    def place(row: Row, part: Part) -> str:
        return f"{part}/{row.task}"

    return place


def write_huggingface(split: Split, directory: Path) -> Usage:
    """Write `labeled/metadata.jsonl`, `unlabeled/metadata.jsonl` and the card `README.md`.

    `load_dataset(directory)` returns the splits `labeled` and `unlabeled` with the columns image, label (class index;
    -1 if there is none, as usual there), task, role, rank (-1 outside any queue) and run ("" there). Where tasks may
    have several classes, `labels` takes the place of `label`: class indices, or [-1]. With suggestions also suggested
    (class index or -1) and confidence (0 without a suggestion). Nulls and empty lists are not
    used: they would have different types in the two splits, which is refused.

    Texts are written to `labeled.jsonl` and `unlabeled.jsonl`, with the column text instead of image.

    Raises
    ------
    ExportError
        The rows are images, but the export has no files.
    """
    several = split.holds == "classes"
    suggested = {row.index: row for row in split.placed_suggestions()}
    for part, rows in (("labeled", split.labeled), ("unlabeled", split.unlabeled)):
        if split.modality == "image":
            _check_files(rows)
            (directory / part).mkdir(exist_ok=True)
        with _listing(directory, part, split.modality).open("w", encoding="utf-8", newline="\n") as stream:
            for row in rows:
                labels = [split.places[name] for name in row.labels] if part == "labeled" else [-1]
                entry = {
                    **_content(row, part, split.modality),
                    **({"labels": labels} if several else {"label": labels[0]}),
                    "task": row.task,
                    "role": row.role,
                    "rank": -1 if row.rank is None else row.rank,
                    "run": row.run or "",
                }
                if split.suggested is not None:
                    found = suggested.get(row.index) if part == "unlabeled" else None
                    entry["suggested"] = -1 if found is None else split.places[str(found.label)]
                    entry["confidence"] = 0.0 if found is None else found.confidence
                stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
    (directory / "README.md").write_text(_card(split), encoding="utf-8")
    cast = "'labels', List(ClassLabel(names=classes))" if several else "'label', ClassLabel(names=classes)"
    return {
        "call": f"load_dataset(directory).cast_column({cast})",
        "splits": ["labeled", "unlabeled"],
        "modality": split.modality,
    }


def read_huggingface(directory: Path, manifest: Usage) -> Contents:
    """Read as the library does: for `imagefolder`, every file needs an entry, and every entry a file."""
    modality: Modality = "text" if manifest["usage"].get("modality") == "text" else "image"
    parts: dict[str, list[tuple[str, list[int]]]] = {}
    suggested: list[tuple[str, str, float]] = []
    for part in manifest["usage"]["splits"]:
        with _listing(directory, part, modality).open(encoding="utf-8", newline="\n") as stream:
            entries = [json.loads(line) for line in stream]
        parts[part] = [
            (
                entry["text"] if modality == "text" else f"{part}/{entry['file_name']}",
                entry["labels"] if "labels" in entry else [entry["label"]],
            )
            for entry in entries
        ]
        suggested += [
            (parts[part][place][0], manifest["classes"][entry["suggested"]], entry["confidence"])
            for place, entry in enumerate(entries)
            if entry.get("suggested", -1) >= 0
        ]
        if modality == "image":
            files = {path.name for path in (directory / part).iterdir()} - {METADATA}
            if odd := files ^ {entry["file_name"] for entry in entries}:
                raise ExportError(
                    f"{part}: {len(odd)} files without metadata or metadata without files, such as {min(odd)}"
                )
    if any(labels != [-1] for _, labels in parts["unlabeled"]):
        raise ExportError("unlabeled: a row has a label; -1 stands for none")
    classes = manifest["classes"]
    labeled = tuple(
        (file, tuple(classes[label] if label >= 0 else "-1" for label in labels))
        for file, labels in parts["labeled"]
    )
    unlabeled = tuple(file for file, _ in parts["unlabeled"])
    return Contents(labeled, unlabeled, inside=modality == "image", suggested=tuple(suggested))


def _check_files(rows: tuple[Row, ...]) -> None:
    """Refuse images that are only listed."""
    if any(row.file is None for row in rows):
        raise ExportError(
            "imagefolder reads only files inside the export; use --media link or --media copy, or choose jsonl"
        )


def _listing(directory: Path, part: str, modality: Modality) -> Path:
    """Return the file that lists the rows of a part."""
    return directory / f"{part}.jsonl" if modality == "text" else directory / part / METADATA


def _content(row: Row, part: str, modality: Modality) -> dict[str, str]:
    """Return the column of the text or of the file's name."""
    return (
        {"text": row.source} if modality == "text" else {"file_name": str(row.file).removeprefix(f"{part}/")}
    )


def _card(split: Split) -> str:
    """Return the dataset card; its YAML header is written as JSON, a subset of YAML."""
    parts = [part for part, rows in (("labeled", split.labeled), ("unlabeled", split.unlabeled)) if rows]
    pattern = "{}.jsonl" if split.modality == "text" else "{}/**"
    files = [{"split": part, "path": pattern.format(part)} for part in parts]
    head = json.dumps([{"config_name": "default", "data_files": files}])
    return f"---\nconfigs: {head}\n---\n\nWritten by usl-backend; `manifest.json` says from what.\n"

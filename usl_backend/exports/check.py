"""Verification of a written export: read it as its consumer does and compare it with the manifest."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usl_backend.errors import ExportError
from usl_backend.exports.formats import FORMATS
from usl_backend.exports.split import Contents
from usl_backend.exports.write import KIND, MANIFEST


@dataclass(frozen=True)
class Checked:
    """Result of checking a consistent export.

    Attributes
    ----------
    format
        Format of the export.
    labeled, unlabeled
        Number of rows in each part.
    per_class
        Class -> number of labeled rows, for every class.
    files
        Number of files found inside the export.
    suggested
        Number of suggestions.
    """

    format: str
    labeled: int
    unlabeled: int
    per_class: dict[str, int]
    files: int
    suggested: int = 0


def check_export(directory: str | Path) -> Checked:
    """Check an export by loading it as its consumer would.

    Parameters
    ----------
    directory
        Directory written by `export_split`.

    Returns
    -------
    Checked

    Raises
    ------
    ExportError
        The directory is not an export, or does not match its manifest; the message names the first fault.
    """
    folder = Path(directory)
    manifest = read_manifest(folder)
    name = manifest["format"]
    if name not in FORMATS:
        raise ExportError(f"{folder} has format {name!r}, which this release does not support")
    try:
        contents = FORMATS[name].read(folder, manifest)
        expected = manifest["contents"]
    except ExportError as error:
        raise ExportError(f"{folder}: {error}") from None
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ExportError(
            f"{folder} cannot be read as {name} ({type(error).__name__}: {error}); export again"
        ) from error
    counts = Counter(label for _, labels in contents.labeled for label in labels)
    per_class = {label: counts.pop(label, 0) for label in manifest["classes"]}
    if counts:
        raise ExportError(
            f"{folder}: label {next(iter(counts))!r} is not a class of manifest.json; export again"
        )
    _check_suggested(folder, contents, manifest)
    found = {"labeled": len(contents.labeled), "unlabeled": len(contents.unlabeled), "per_class": per_class}
    for key, value in found.items():
        if expected[key] != value:
            raise ExportError(
                f"{folder}: {key} is {value}, but manifest.json says {expected[key]}; export again"
            )
    files = _files(folder, [path for path, _ in contents.labeled], list(contents.unlabeled), manifest)
    return Checked(
        name,
        len(contents.labeled),
        len(contents.unlabeled),
        per_class,
        files if contents.inside else 0,
        len(contents.suggested),
    )


def _check_suggested(folder: Path, contents: Contents, manifest: dict[str, Any]) -> None:
    """Check number, classes, confidences and rows of the suggestions."""
    wanted = manifest["contents"].get("suggested", 0)
    if len(contents.suggested) != wanted:
        raise ExportError(
            f"{folder}: suggested is {len(contents.suggested)}, but manifest.json says {wanted}; export again"
        )
    unlabeled, classes = set(contents.unlabeled), set(manifest["classes"])
    for path, label, confidence in contents.suggested:
        if path not in unlabeled or label not in classes or not 0.0 <= confidence <= 1.0:
            raise ExportError(
                f"{folder}: the suggestion {label!r} ({confidence}) for {path} is of no unlabeled row or no class of "
                "manifest.json; export again"
            )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of an export.

    Raises
    ------
    ExportError
        There is no manifest, or it was not written by usl-backend.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["kind"] == KIND:
            return dict(manifest)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ExportError(f"{folder} is not an export of usl-backend: it has no {MANIFEST} written by it")


def _files(folder: Path, labeled: list[str], unlabeled: list[str], manifest: dict[str, Any]) -> int:
    """Check that linked and copied files exist, and that no row is in both parts unless requested."""
    if not manifest["labeled_rows_are_also_unlabeled"] and (both := set(labeled) & set(unlabeled)):
        raise ExportError(f"{folder}: {len(both)} rows are in both parts, such as {min(both)}")
    if manifest["media"]["mode"] == "none":
        return 0
    paths = {*labeled, *unlabeled}
    for path in sorted(paths):
        if not (folder / path).is_file():
            raise ExportError(
                f"{folder}: {path} is missing or its link is broken; export again, with --media copy if the sources "
                "may move"
            )
    return len(paths)

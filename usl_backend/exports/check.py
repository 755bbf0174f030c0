"""Reads a written export the way its consumer does and compares it with the manifest. Nothing is repaired."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usl_backend.errors import ExportError
from usl_backend.exports.formats import FORMATS
from usl_backend.exports.write import KIND, MANIFEST


@dataclass(frozen=True)
class Checked:
    """An export that holds what it says.

    Attributes
    ----------
    format
        Its format.
    labeled, unlabeled
        Rows in each part.
    per_class
        Class -> labeled rows, every class named.
    files
        Files that were found inside the export.
    """

    format: str
    labeled: int
    unlabeled: int
    per_class: dict[str, int]
    files: int


def check_export(directory: str | Path) -> Checked:
    """Load an export as its consumer would.

    Parameters
    ----------
    directory
        Written by `export_split`.

    Returns
    -------
    Checked

    Raises
    ------
    ExportError
        It is no export, or does not hold what its manifest says; the message names the first fault.
    """
    folder = Path(directory)
    manifest = read_manifest(folder)
    name = manifest["format"]
    if name not in FORMATS:
        raise ExportError(f"{folder} has format {name!r}, which this release does not know")
    try:
        contents = FORMATS[name].read(folder, manifest)
        told = manifest["contents"]
    except ExportError as error:
        raise ExportError(f"{folder}: {error}") from None
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ExportError(
            f"{folder} cannot be read as {name} ({type(error).__name__}: {error}); export again"
        ) from error
    counts = Counter(label for _, label in contents.labeled)
    per_class = {label: counts.pop(label, 0) for label in manifest["classes"]}
    if counts:
        raise ExportError(
            f"{folder}: {next(iter(counts))!r} is a label but no class of manifest.json; export again"
        )
    found = {"labeled": len(contents.labeled), "unlabeled": len(contents.unlabeled), "per_class": per_class}
    for key, value in found.items():
        if told[key] != value:
            raise ExportError(f"{folder}: {key} is {value}, but manifest.json says {told[key]}; export again")
    files = _files(folder, [path for path, _ in contents.labeled], list(contents.unlabeled), manifest)
    return Checked(
        name, len(contents.labeled), len(contents.unlabeled), per_class, files if contents.inside else 0
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export.

    Raises
    ------
    ExportError
        There is none, or it is not ours.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["kind"] == KIND:
            return dict(manifest)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ExportError(f"{folder} is no export of usl-backend: it has no {MANIFEST} of that kind")


def _files(folder: Path, labeled: list[str], unlabeled: list[str], manifest: dict[str, Any]) -> int:
    """Insist that linked and copied files are there, and that no row is in both parts unless that was asked for."""
    if not manifest["labeled_rows_are_also_unlabeled"] and (both := set(labeled) & set(unlabeled)):
        raise ExportError(f"{folder}: {len(both)} rows are in both parts, such as {min(both)}")
    if manifest["media"]["mode"] == "none":
        return 0
    paths = {*labeled, *unlabeled}
    for path in sorted(paths):
        if not (folder / path).is_file():
            raise ExportError(
                f"{folder}: {path} is missing or its link leads nowhere; export again, with --media copy where sources "
                "may move"
            )
    return len(paths)

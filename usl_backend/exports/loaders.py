"""Python loaders that are copied into exports as text files; this package never runs them."""

from __future__ import annotations

from pathlib import Path

from usl_backend.errors import ExportError
from usl_backend.exports.split import Contents, Split, Usage
from usl_backend.exports.tables import read_csv, write_csv

TORCH_LOADER = "torch_split.py"
"""Loader copied into exports: torchvision-style datasets."""
_TEXTS = Path(__file__).parent / "templates"


def write_loader(directory: Path, name: str) -> None:
    """Copy a loader into an export."""
    (directory / name).write_bytes((_TEXTS / f"{name}.txt").read_bytes())


def check_loader(directory: Path, name: str) -> None:
    """Check a loader in an export; raise `ExportError` if it is missing or was changed."""
    path = directory / name
    if not path.is_file() or path.read_bytes() != (_TEXTS / f"{name}.txt").read_bytes():
        raise ExportError(f"{name} is missing, or differs from the loader of this release; export again")


def write_torch(split: Split, directory: Path) -> Usage:
    """Write the CSV files and a loader that provides them as torch datasets."""
    write_csv(split, directory)
    write_loader(directory, TORCH_LOADER)
    names = "LabeledRows, UnlabeledRows" + ("" if split.suggested is None else ", SuggestedRows")
    return {
        "call": f"from torch_split import {names}; LabeledRows(directory, transform=weak)",
        "num_classes": len(split.classes),
    }


def read_torch(directory: Path, manifest: Usage) -> Contents:
    """Read the CSV files as the loader does."""
    check_loader(directory, TORCH_LOADER)
    return read_csv(directory, manifest)

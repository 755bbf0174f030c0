"""Texts for semilearn (USB), whose readers require two augmentations per text; the text itself is written for both."""

from __future__ import annotations

import json
from pathlib import Path

from usl_backend.errors import ExportError
from usl_backend.exports.loaders import check_loader, write_loader
from usl_backend.exports.split import Contents, Split, Usage, labeled_as

LOADER = "semilearn_texts.py"
"""Loader copied into exports: two datasets for semilearn (USB) 0.3."""


def write_semilearn_text(split: Split, directory: Path) -> Usage:
    """Write `labeled.json` and `unlabeled.json`, `{"0": {"ori", "aug_0", "aug_1", "label"}}`, and a loader.

    `label` is the class index, or -1. `aug_0` and `aug_1` contain the text itself; replace them with
    back-translations, which USB's recipes use for the strong view.

    Raises
    ------
    ExportError
        Media files are requested, but the sources are texts.
    """
    if any(row.file is not None for row in (*split.labeled, *split.unlabeled)):
        raise ExportError("this format writes the sources as texts, which have no files; use --media none")
    for part, rows in (("labeled", split.labeled), ("unlabeled", split.unlabeled)):
        with (directory / f"{part}.json").open("w", encoding="utf-8") as stream:
            stream.write("{")
            for place, row in enumerate(rows):
                label = -1 if part == "unlabeled" else split.places[str(row.label)]
                views = dict.fromkeys(("ori", "aug_0", "aug_1"), "\n".join(row.sources))
                entry = json.dumps({**views, "label": str(label)}, ensure_ascii=False)
                stream.write((",\n" if place else "\n") + f'"{row.index}": {entry}')
            stream.write("\n}\n")
    write_loader(directory, LOADER)
    return {
        "call": "from semilearn_texts import get_split; labeled, unlabeled = get_split('fixmatch', directory)",
        "num_classes": len(split.classes),
        "num_labels": len(split.labeled),
        "note": "get_json_dset is not called: it draws the labeled rows anew. aug_0 and aug_1 are the text itself; "
        "put augmented texts there before training.",
    }


def read_semilearn_text(directory: Path, manifest: Usage) -> Contents:
    """Read both files as the loader does; the loader must be unchanged."""
    check_loader(directory, LOADER)
    parts = [
        list(json.loads((directory / f"{name}.json").read_text(encoding="utf-8")).values())
        for name in ("labeled", "unlabeled")
    ]
    if any(int(entry["label"]) != -1 for entry in parts[1]):
        raise ExportError("unlabeled.json holds a class; -1 stands for none")
    return Contents(
        labeled_as((entry["ori"], manifest["classes"][int(entry["label"])]) for entry in parts[0]),
        tuple(entry["ori"] for entry in parts[1]),
        inside=False,
    )

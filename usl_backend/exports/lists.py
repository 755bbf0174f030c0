"""Lists with one file per line: the annotation files of mmpretrain and semilearn."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from usl_backend.errors import ExportError
from usl_backend.exports.loaders import check_loader, write_loader
from usl_backend.exports.split import Contents, Row, Split, Usage, labeled_as


def write_mmpretrain(split: Split, directory: Path) -> Usage:
    """Write `labeled.txt` (`path class`), `unlabeled.txt` (`path`) and both as OpenMMLab JSON; suggestions likewise.

    `suggested.txt` has lines as `labeled.txt`; the entries of `suggested.json` have a `confidence` too.

    Labeled lines are split at the last space, so paths may contain spaces, but no line breaks and no leading or
    trailing spaces.
    """
    for row in (*split.labeled, *split.unlabeled):
        if row.path != row.path.strip() or len(row.path.splitlines()) != 1:
            raise ExportError(_broken(row))
    _write(directory / "labeled.txt", (f"{row.path} {split.places[str(row.label)]}" for row in split.labeled))
    _write(directory / "unlabeled.txt", (row.path for row in split.unlabeled))
    for part, rows in (("labeled", split.labeled), ("unlabeled", split.unlabeled)):
        entries: list[dict[str, object]] = [{"img_path": row.path} for row in rows]
        if part == "labeled":
            for entry, row in zip(entries, rows, strict=True):
                entry["gt_label"] = split.places[str(row.label)]
        content = {"metainfo": {"classes": list(split.classes)}, "data_list": entries}
        with (directory / f"{part}.json").open("w", encoding="utf-8") as stream:
            json.dump(content, stream, ensure_ascii=False)
    usage: dict[str, object] = {
        "labeled": {"type": "CustomDataset", "ann_file": "labeled.txt", "classes": list(split.classes)},
        "unlabeled": {"type": "CustomDataset", "ann_file": "unlabeled.txt", "with_label": False},
    }
    if split.suggested is not None:
        found = split.placed_suggestions()
        _write(directory / "suggested.txt", (f"{row.path} {split.places[str(row.label)]}" for row in found))
        listed = [
            {"img_path": row.path, "gt_label": split.places[str(row.label)], "confidence": row.confidence}
            for row in found
        ]
        content = {"metainfo": {"classes": list(split.classes)}, "data_list": listed}
        with (directory / "suggested.json").open("w", encoding="utf-8") as stream:
            json.dump(content, stream, ensure_ascii=False)
        usage["suggested"] = {
            "type": "CustomDataset",
            "ann_file": "suggested.txt",
            "classes": list(split.classes),
        }
    return usage


def read_mmpretrain(directory: Path, manifest: Usage) -> Contents:
    """Read the text files as mmpretrain's CustomDataset does, and check that the JSON files agree."""
    classes = manifest["classes"]
    pairs = [line.strip().rsplit(" ", 1) for line in _lines(directory / "labeled.txt")]
    labeled = tuple((path, classes[int(place)]) for path, place in pairs)
    unlabeled = tuple(_lines(directory / "unlabeled.txt"))
    for part, wanted in (("labeled", labeled), ("unlabeled", unlabeled)):
        content = json.loads((directory / f"{part}.json").read_text(encoding="utf-8"))
        names = content["metainfo"]["classes"]
        listed = tuple(
            (entry["img_path"], names[entry["gt_label"]]) if part == "labeled" else entry["img_path"]
            for entry in content["data_list"]
        )
        if listed != wanted or names != classes:
            raise ExportError(f"{part}.json and {part}.txt differ")
    suggested: tuple[tuple[str, str, float], ...] = ()
    if "suggested" in manifest["contents"]:
        entries = json.loads((directory / "suggested.json").read_text(encoding="utf-8"))["data_list"]
        suggested = tuple(
            (entry["img_path"], classes[entry["gt_label"]], float(entry["confidence"])) for entry in entries
        )
        lines = [line.strip().rsplit(" ", 1) for line in _lines(directory / "suggested.txt")]
        if [(path, classes[int(place)]) for path, place in lines] != [entry[:2] for entry in suggested]:
            raise ExportError("suggested.json and suggested.txt differ")
    return Contents(
        labeled_as(labeled), unlabeled, inside=(directory / "media").is_dir(), suggested=suggested
    )


SEMILEARN_LOADER = "semilearn_split.py"
"""Loader copied into exports: two datasets for semilearn (USB) 0.3."""


def write_semilearn(split: Split, directory: Path) -> Usage:
    """Write `l_train.txt` and `u_train.txt` (`path class`, with -1 for no class) and a loader for semilearn.

    Semi-Aves' reader splits at whitespace, so paths must not contain any.
    """
    for row in (*split.labeled, *split.unlabeled):
        if len(row.path.split()) != 1 or row.path != row.path.strip():
            raise ExportError(_broken(row))
    _write(directory / "l_train.txt", (f"{row.path} {split.places[str(row.label)]}" for row in split.labeled))
    _write(directory / "u_train.txt", (f"{row.path} -1" for row in split.unlabeled))
    (directory / "classes.json").write_text(
        json.dumps(list(split.classes), ensure_ascii=False), encoding="utf-8"
    )
    write_loader(directory, SEMILEARN_LOADER)
    return {
        "call": "from semilearn_split import get_split; labeled, unlabeled = get_split('fixmatch', directory, "
        "transform_weak, transform_strong)",
        "num_classes": len(split.classes),
        "num_labels": len(split.labeled),
        "note": "split_ssl_data is not called: it overwrites stored indices and asks that num_labels be a multiple of "
        "num_classes. Give include_labeled=True for USB's habit of training on labeled rows as unlabeled ones too.",
    }


def read_semilearn(directory: Path, manifest: Usage) -> Contents:
    """Read the lists as semilearn's Semi-Aves reader does; the loader must be unchanged."""
    check_loader(directory, SEMILEARN_LOADER)
    parts = [[line.rsplit() for line in _lines(directory / name)] for name in ("l_train.txt", "u_train.txt")]
    if any(int(place) != -1 for _, place in parts[1]):
        raise ExportError("u_train.txt holds a class; -1 stands for none")
    return Contents(
        labeled_as((path, manifest["classes"][int(place)]) for path, place in parts[0]),
        tuple(path for path, _ in parts[1]),
        inside=(directory / "media").is_dir(),
    )


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write lines, each ended by a single line feed."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def _lines(path: Path) -> list[str]:
    """Read the lines of a list."""
    with path.open(encoding="utf-8", newline="\n") as stream:
        return [line.rstrip("\n") for line in stream]


def _broken(row: Row) -> str:
    """Explain why a list cannot hold a row."""
    return (
        f"path {row.path!r} of task {row.task} has spaces or line breaks, at which the format's readers split; use "
        "--media link or --media copy, which creates files with plain names, or choose csv or jsonl"
    )

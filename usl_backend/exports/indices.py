"""Index arrays for USL's FixMatch, TorchSSL and other index-based code; the manifest describes the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usl_backend.errors import ExportError
from usl_backend.exports.split import Contents, Row, Split, Usage, labeled_as

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_npy(split: Split, directory: Path) -> Usage:
    """Write `indices/<dataset>/` with int64 arrays, `.npy`.

    `<method>_selected_<m>.npy`, or `random_<m>.npy`: rows with a label, in rank order, earlier runs first and rows
    without a rank last; their number must equal the training's num_labeled. `unlabeled.npy`: rows without a label.
    `targets.npy`: class index of every row, or -1. `classes.txt`: class names as JSON strings, one per line. With
    suggestions `suggested.npy`, `suggested_targets.npy` and `suggested_confidence.npy` (float64): rows, class indices,
    confidences.
    """
    dataset = f"project-{split.manifest.get('project', {}).get('id', 'none')}"
    method = str(split.manifest.get("method", "usl"))
    name = ("random" if method == "random" else f"{method}_selected") + f"_{len(split.labeled)}"
    folder = directory / "indices" / dataset
    folder.mkdir(parents=True)
    ranked = sorted(split.labeled, key=_order)
    rows = int(max((row.index for row in (*split.labeled, *split.unlabeled)), default=-1)) + 1
    targets = np.full(rows, -1, dtype=np.int64)
    targets[[row.index for row in split.labeled]] = [split.places[str(row.label)] for row in split.labeled]
    arrays = {
        name: np.array([row.index for row in ranked], dtype=np.int64),
        "unlabeled": np.array([row.index for row in split.unlabeled], dtype=np.int64),
        "targets": targets,
    }
    if split.suggested is not None:
        rows_with_one = split.placed_suggestions()
        arrays["suggested"] = np.array([row.index for row in rows_with_one], dtype=np.int64)
        arrays["suggested_targets"] = np.array(
            [split.places[str(row.label)] for row in rows_with_one], dtype=np.int64
        )
        confidence = np.array([row.confidence for row in rows_with_one], dtype=np.float64)
        np.save(folder / "suggested_confidence.npy", confidence, allow_pickle=False)
    for stem, array in arrays.items():
        np.save(folder / f"{stem}.npy", array, allow_pickle=False)
    names = "".join(json.dumps(label, ensure_ascii=False) + "\n" for label in split.classes)
    (folder / "classes.txt").write_text(names, encoding="utf-8")
    classes = max(len(split.classes), 1)
    return {
        "dataset": dataset,
        "name": name,
        "num_labeled": len(ranked),
        "folder": f"indices/{dataset}",
        # TorchSSL and semilearn require it although the index decides.
        "num_labels_that_divides": classes * -(-max(len(ranked), 1) // classes),
    }


def read_npy(directory: Path, manifest: Usage) -> Contents:
    """Read the arrays with `np.load`."""
    usage = manifest["usage"]
    folder = directory / usage["folder"]
    labeled, unlabeled, targets = (
        _array(folder / f"{stem}.npy") for stem in (usage["name"], "unlabeled", "targets")
    )
    if len(labeled) != usage["num_labeled"]:
        raise ExportError(
            f"{usage['name']}.npy has {len(labeled)} rows, but num_labeled is {usage['num_labeled']}"
        )
    for rows in (labeled, unlabeled):
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(targets):
            raise ExportError(f"an index is outside the {len(targets)} rows of targets.npy")
    suggested, kinds, confidence = np.array([], np.int64), np.array([], np.int64), np.array([])
    if "suggested" in manifest["contents"]:
        suggested, kinds = (_array(folder / f"{stem}.npy") for stem in ("suggested", "suggested_targets"))
        confidence = np.load(folder / "suggested_confidence.npy", allow_pickle=False)
    paths = {row["index"]: row.get("file") or row["source"] for row in manifest["rows"]}
    return Contents(
        labeled_as((paths[row], manifest["classes"][targets[row]]) for row in labeled.tolist()),
        tuple(paths[row] for row in unlabeled.tolist()),
        inside=any(row.get("file") for row in manifest["rows"]),
        suggested=tuple(
            (paths[row], manifest["classes"][kind], share)
            for row, kind, share in zip(suggested.tolist(), kinds.tolist(), confidence.tolist(), strict=True)
        ),
    )


def _order(row: Row) -> tuple[bool, int, int, int]:
    """Return the sort key of a labeled row."""
    number = int(row.run.rpartition("-")[2]) if row.run else 0
    return row.rank is None, number, row.rank or 0, row.index


def _array(path: Path) -> NDArray[np.int64]:
    """Read one array of row numbers or class indices."""
    array: NDArray[np.int64] = np.load(path, allow_pickle=False)
    if array.ndim != 1 or array.dtype != np.int64:
        raise ExportError(
            f"{path.name} holds {array.dtype} in {array.ndim} dimensions, not one-dimensional int64"
        )
    return array

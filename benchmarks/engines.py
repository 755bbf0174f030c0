"""Rows by engine and precision: neighbors shared with torch in float32, and what labels on the picks are worth.

The pictures are the demo's 1,200 (Fashion-MNIST) as JPEG files of 224 px, decoded as a run decodes them for the engine,
and the texts the demo's, with Debian's sections as classes. Every split holds out 30 %; `usl` picks among the others,
and each held-out row gets the class of its nearest pick. All engines see the same splits.

    python benchmarks/engines.py --json engines.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from embedding import demo_pictures, pictures_below
from numpy.typing import NDArray

from usl_backend import USL, encoders
from usl_backend.demo import dataset, texts
from usl_backend.encoders.base import decodes_quickly
from usl_backend.encoders.engines import REFERENCE, Engine, has_native_bfloat16
from usl_backend.evaluation.accuracy import nearest_neighbor_accuracy
from usl_backend.media import MediaLimits, decode_image

BUDGETS = (10, 20, 40, 100)
HELD_OUT = 0.3
NEIGHBORS = 20


def engines() -> list[Engine]:
    """List what this host computes by."""
    found = [REFERENCE, Engine("openvino", required=True)]
    if has_native_bfloat16():
        found += [Engine("torch", "bfloat16"), Engine("openvino", "bfloat16", required=True)]
    return found


def picture_rows(engine: Engine) -> NDArray[np.float32]:
    """Embed the demo's pictures."""
    encoder = encoders.load("efficientnet-lite0", engine=engine)
    with tempfile.TemporaryDirectory() as folder:
        files = [path.read_bytes() for path in pictures_below(demo_pictures(Path(folder)))]
    quick, limits = decodes_quickly(encoder), MediaLimits()
    return encoder.encode([decode_image(one, size=encoder.size, limits=limits, quick=quick) for one in files])


def text_rows(engine: Engine) -> NDArray[np.float32]:
    """Embed the demo's texts."""
    return encoders.load("minilm", engine=engine).encode([one.description for one in texts.load()])


def nearest(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest rows of each row, in any order."""
    similar = rows.astype(np.float64) @ rows.astype(np.float64).T
    np.fill_diagonal(similar, -2.0)
    return np.argpartition(-similar, NEIGHBORS, axis=1)[:, :NEIGHBORS]


def shared(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return the mean share of common neighbors."""
    return float(np.mean([len(set(a) & set(b)) / NEIGHBORS for a, b in zip(one, other, strict=True)]))


def worth(rows: NDArray[np.float32], classes: NDArray[np.int64], splits: int) -> NDArray[np.float64]:
    """Measure the accuracy by split and budget."""
    found = np.empty((splits, len(BUDGETS)))
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(rows))
        test, pool = np.split(order, [int(HELD_OUT * len(rows))])
        for place, budget in enumerate(BUDGETS):
            picks = pool[USL().select(rows[pool], budget, rng=split).indices]
            found[split, place] = nearest_neighbor_accuracy(
                rows[picks], classes=classes[picks], test_rows=rows[test], test_classes=classes[test]
            )
    return found


def report(
    name: str, rows: Sequence[NDArray[np.float32]], classes: NDArray[np.int64], splits: int
) -> list[dict[str, Any]]:
    """Print the lines of one encoder."""
    found: list[dict[str, Any]] = []
    wanted = nearest(rows[0])
    print(f"\n{name}, {len(rows[0])} rows")
    for engine, ours in zip(engines(), rows, strict=True):
        by_split = 100.0 * worth(ours, classes, splits)
        if not found:
            reference = by_split.mean(axis=1)
        apart = by_split.mean(axis=1) - reference
        told = {
            "engine": str(engine),
            "neighbors shared": shared(nearest(ours), wanted),
            "least cosine": float((ours * rows[0]).sum(axis=1).min()),
            "1-NN": dict(zip(map(str, BUDGETS), by_split.mean(axis=0).round(1).tolist(), strict=True)),
            "mean": float(by_split.mean()),
            "apart": float(apart.mean()),
            "standard error": float(apart.std(ddof=1) / np.sqrt(splits)),
        }
        found.append(told)
        print(json.dumps(told), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    classes = dataset.load().labels.astype(np.int64)
    sections = np.unique([one.section for one in texts.load()], return_inverse=True)[1]
    found = {
        "efficientnet-lite0": report(
            "efficientnet-lite0", [picture_rows(one) for one in engines()], classes, options.splits
        ),
        "minilm": report("minilm", [text_rows(one) for one in engines()], sections, options.splits),
    }
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Pictures with boxes: what the boxes of the picks are worth, against those of random pictures; no detector is trained.

A classifier of box contents (1-NN on EfficientNet-Lite0 rows of the crops) learns from the boxes of
the chosen pictures and is judged by macro recall on the boxes of all others: at equal pictures, and at equal boxes,
where random pictures are added or taken away until they have as many boxes as the picks. FOLDER holds a file
in the format of COCO (`annotations.json`, or `--annotations`) and the pictures that it names.

    python benchmarks/regions.py FOLDER --budgets 20 50 100
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from usl_backend.encoders import Encoder
from usl_backend.encoders import load as load_encoder
from usl_backend.selection import USL

SMALLEST = 8
"""Pixels of a side, below which a box is left out."""


@dataclass(frozen=True)
class Boxes:
    """Pictures and their boxes.

    Attributes
    ----------
    pictures : (n, d) float32
    crops : (b, d) float32
    owner : (b,) int64
        Picture of each box.
    classes : (b,) int64
    """

    pictures: NDArray[np.float32]
    crops: NDArray[np.float32]
    owner: NDArray[np.int64]
    classes: NDArray[np.int64]


def read(folder: Path, annotations: Path, encoder: Encoder) -> Boxes:
    """Embed the pictures and their boxes."""
    held = json.loads(annotations.read_text(encoding="utf-8"))
    names = {one["id"]: one["file_name"] for one in held["images"]}
    boxes: dict[int, list[tuple[list[float], int]]] = {}
    for one in held["annotations"]:
        if min(one["bbox"][2:]) >= SMALLEST and not one.get("iscrowd"):
            boxes.setdefault(one["image_id"], []).append((one["bbox"], one["category_id"]))
    side = (encoder.size, encoder.size)
    pictures, crops, owner, classes = [], [], [], []
    for number, (key, inside) in enumerate(sorted(boxes.items())):
        with Image.open(folder / names[key]) as opened:
            picture = opened.convert("RGB")
        pictures.append(encoder.encode([np.asarray(picture.resize(side))])[0])
        cut = [picture.crop((x, y, x + wide, y + high)).resize(side) for (x, y, wide, high), _ in inside]
        crops += list(encoder.encode([np.asarray(one) for one in cut]))
        owner += [number] * len(inside)
        classes += [category for _, category in inside]
    return Boxes(
        np.stack(pictures), np.stack(crops), np.array(owner), np.unique(classes, return_inverse=True)[1]
    )


def recall(boxes: Boxes, chosen: NDArray[np.int64]) -> float:
    """Compute the macro recall, in percent, of 1-NN from the boxes of chosen pictures on the other boxes."""
    known = np.isin(boxes.owner, chosen)
    nearest = (boxes.crops[~known] @ boxes.crops[known].T).argmax(axis=1)
    right = boxes.classes[known][nearest] == boxes.classes[~known]
    truth = boxes.classes[~known]
    return 100 * float(np.mean([right[truth == one].mean() for one in np.unique(truth)]))


def with_as_many_boxes(boxes: Boxes, order: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Return the first pictures of an order that have about so many boxes."""
    counts = np.bincount(boxes.owner, minlength=len(boxes.pictures))[order]
    return order[: max(1, int(np.abs(counts.cumsum() - wanted).argmin()) + 1)]


def gains(boxes: Boxes, budget: int, seeds: Sequence[int]) -> tuple[list[float], list[float]]:
    """Compute the picks' recall minus that of random pictures, by seed: at equal pictures, and at equal boxes."""
    by_picture, by_box = [], []
    for seed in seeds:
        picks = USL().select(boxes.pictures, budget=budget, rng=seed).indices
        order = np.random.default_rng(seed).permutation(len(boxes.pictures))
        ours = recall(boxes, picks)
        by_picture.append(ours - recall(boxes, order[:budget]))
        same = with_as_many_boxes(boxes, order, int(np.isin(boxes.owner, picks).sum()))
        by_box.append(ours - recall(boxes, same))
    return by_picture, by_box


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--budgets", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--seeds", type=int, default=8)
    arguments = parser.parse_args()
    annotations = arguments.annotations or arguments.folder / "annotations.json"
    boxes = read(arguments.folder, annotations, load_encoder("efficientnet-lite0"))
    print(f"{len(boxes.pictures)} pictures, {len(boxes.crops)} boxes, {boxes.classes.max() + 1} classes")
    print("| pictures | gain at equal pictures | gain at equal boxes |\n|---|---|---|")
    for budget in arguments.budgets:
        shown = [
            f"{np.mean(one):+.1f} ± {np.std(one):.1f}" for one in gains(boxes, budget, range(arguments.seeds))
        ]
        print(f"| {budget} | " + " | ".join(shown) + " |", flush=True)


if __name__ == "__main__":
    main()

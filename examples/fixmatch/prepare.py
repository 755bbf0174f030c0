"""Make a split without Label Studio: the truth of a known data set plays the annotators.

    python prepare.py out --per-class 4              # chosen by usl-backend
    python prepare.py out --per-class 4 --random
    python prepare.py out --per-class 4 --control 100      # with suggestions for the others

writes `out/images`, `out/split` (an export, format csv) and `out/test.csv` from the pictures that come with
usl-backend, 1,200 of Fashion-MNIST.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from usl_backend import USL, Control, accept, export_split, suggest
from usl_backend.demo.dataset import load, write_images
from usl_backend.encoders import load as load_encoder
from usl_backend.exports import Row, Split, local_file
from usl_backend.exports.split import SuggestedRow


def embed(paths: list[Path]) -> np.ndarray:
    """Embeddings of the bundled encoder, (n, d) float32."""
    encoder = load_encoder("efficientnet-lite0", image_size=128)
    parts = []
    for begin in range(0, len(paths), 64):
        batch = []
        for path in paths[begin : begin + 64]:
            with Image.open(path) as picture:
                batch.append(np.asarray(picture.convert("RGB").resize((128, 128), Image.Resampling.BICUBIC)))
        parts.append(encoder.encode(batch))
    return np.concatenate(parts)


def prepare(
    out: Path, *, per_class: int = 4, pool: int = 900, test: int = 300, seed: int = 0, chosen: bool = True,
    control: int = 0,
) -> tuple[Path, Path]:  # fmt: skip
    """Choose rows of the pool, label them by the truth, export; the split's and the test list's paths."""
    data = load()
    paths = write_images(out / "images")[: pool + test]
    budget = per_class * len(data.classes)
    rows = embed(paths[:pool]) if chosen or control else np.empty((0, 0), np.float32)
    if chosen:
        picks = USL().select(rows, budget, rng=seed).indices.tolist()
    else:
        picks = np.random.default_rng(seed).choice(pool, budget, replace=False).tolist()
    others = np.setdiff1d(np.arange(pool), picks)
    drawn = np.random.default_rng([seed, 1]).choice(others, control, replace=False).tolist()
    rank = {row: place for place, row in enumerate([*picks, *drawn])}

    def row(index: int) -> Row:
        role = "control" if index in drawn else "pick" if index in rank else "pool"
        label = data.classes[data.labels[index]] if index in rank else None
        return Row(index, index, str(paths[index]), role, rank.get(index), label)

    listed = [row(index) for index in range(pool)]
    split = Split(
        labeled=tuple(row for row in listed if row.label is not None),
        unlabeled=tuple(row for row in listed if row.label is None),
        classes=data.classes,
        manifest={"method": "usl" if chosen else "random", "seed": seed},
    )
    if control:
        labels = np.full(pool, -1)
        labels[picks] = data.labels[picks]
        split = with_suggestions(split, rows, labels, Control(np.array(drawn), data.labels[drawn]))
    export_split(split, out / "split", format="csv", media="link", fetch=local_file)
    with (out / "test.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "label"))
        for index in range(pool, pool + test):
            writer.writerow((paths[index].relative_to(out), data.classes[data.labels[index]]))
    return out / "split", out / "test.csv"


def with_suggestions(split: Split, rows: np.ndarray, labels: np.ndarray, control: Control) -> Split:
    """Suggest classes for the unlabeled rows, and accept what meets 95 % by the control labels."""
    found = suggest(rows, labels)
    promise = accept(found, control=control)
    print(promise)
    suggested = tuple(
        SuggestedRow(
            row.index, row.task, row.source, row.role, row.rank, split.classes[found.label[row.index]],
            confidence=float(found.confidence[row.index]), accepted=bool(promise.accepted[row.index]),
        )
        for row in split.unlabeled
    )  # fmt: skip
    return replace(split, suggested=suggested)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--per-class", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--control", type=int, default=0, help="rows labeled to accept suggestions by")
    parser.add_argument("--random", action="store_true", help="label random rows instead")
    options = parser.parse_args()
    prepare(
        options.out,
        per_class=options.per_class,
        seed=options.seed,
        chosen=not options.random,
        control=options.control,
    )

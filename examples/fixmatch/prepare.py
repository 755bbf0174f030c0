"""Make a split without Label Studio: the truth of a known data set plays the annotators.

    python prepare.py out --per-class 4              # chosen by usl-backend
    python prepare.py out --per-class 4 --random

writes `out/images`, `out/split` (an export, format csv) and `out/test.csv` from the pictures that come with
usl-backend, 1,200 of Fashion-MNIST.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

from usl_backend import USL, export_split
from usl_backend.demo.dataset import load, write_images
from usl_backend.encoders import load as load_encoder
from usl_backend.exports import Row, Split, local_file


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
    out: Path, *, per_class: int = 4, pool: int = 900, test: int = 300, seed: int = 0, chosen: bool = True
) -> tuple[Path, Path]:
    """Choose rows of the pool, label them by the truth, export; the split's and the test list's paths."""
    data = load()
    paths = write_images(out / "images")[: pool + test]
    budget = per_class * len(data.classes)
    if chosen:
        picks = USL().select(embed(paths[:pool]), budget, rng=seed).indices.tolist()
    else:
        picks = np.random.default_rng(seed).choice(pool, budget, replace=False).tolist()
    rank = {row: place for place, row in enumerate(picks)}

    def row(index: int) -> Row:
        label = data.classes[data.labels[index]] if index in rank else None
        return Row(index, index, str(paths[index]), "pick" if label else "pool", rank.get(index), label)

    rows = [row(index) for index in range(pool)]
    split = Split(
        labeled=tuple(row for row in rows if row.label is not None),
        unlabeled=tuple(row for row in rows if row.label is None),
        classes=data.classes,
        manifest={"method": "usl" if chosen else "random", "seed": seed},
    )
    export_split(split, out / "split", format="csv", media="link", fetch=local_file)
    with (out / "test.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "label"))
        for index in range(pool, pool + test):
            writer.writerow((paths[index].relative_to(out), data.classes[data.labels[index]]))
    return out / "split", out / "test.csv"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--per-class", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random", action="store_true", help="label random rows instead")
    options = parser.parse_args()
    prepare(options.out, per_class=options.per_class, seed=options.seed, chosen=not options.random)

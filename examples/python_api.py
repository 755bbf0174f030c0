"""Embeddings in, selection out, labels back, split written: usl-backend as a library, without Label Studio.

python python_api.py [--out DIR] [--smoke]

The embeddings may come from any model. Here they are made up: eight blobs in 64 dimensions, of unequal size.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from usl_backend import USL, export_split
from usl_backend.exports import Row, Split, check_export

CLASSES = tuple(f"kind {letter}" for letter in "ABCDEFGH")


def blobs(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows, (n, 64) float32, and the class of each; the largest class is 20 times the smallest."""
    share = np.geomspace(20, 1, len(CLASSES))
    truth = rng.choice(len(CLASSES), n, p=share / share.sum())
    centers = rng.normal(size=(len(CLASSES), 64))
    return (centers[truth] + 0.5 * rng.normal(size=(n, 64))).astype(np.float32), truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, help="directory to make; default: a temporary one")
    parser.add_argument("--smoke", action="store_true", help="fewer rows")
    options = parser.parse_args()
    embeddings, truth = blobs(500 if options.smoke else 20_000, np.random.default_rng(0))

    # 1. Choose. The order matters: every beginning of it is itself a good selection.
    selection = USL().select(embeddings, budget=16, rng=0)
    print("label these rows, in this order:", *selection.indices)
    drawn = np.random.default_rng(0).choice(len(embeddings), 16, replace=False)
    for name, rows in (("chosen", selection.indices), ("random", drawn)):
        print(f"{name}: {len(Counter(truth[rows]))} of {len(CLASSES)} kinds among 16 rows")

    # 2. Ask people for the labels of those rows; here the truth answers.
    answers = {int(row): CLASSES[truth[row]] for row in selection.indices}

    # 3. Hand the split to training.
    rank = {int(row): place for place, row in enumerate(selection.indices)}
    rows = [
        Row(row, row, f"row-{row}", "pick" if row in rank else "pool", rank.get(row), answers.get(row))
        for row in range(len(embeddings))
    ]
    split = Split(
        labeled=tuple(row for row in rows if row.label is not None),
        unlabeled=tuple(row for row in rows if row.label is None),
        classes=CLASSES,
        manifest={"method": "usl", "parameters": dict(selection.parameters), "seed": 0},
    )
    with tempfile.TemporaryDirectory() as folder:
        directory = export_split(split, options.out or Path(folder) / "split", format="npy")
        found = check_export(directory)
        print(f"{directory}: {found.labeled} labeled and {found.unlabeled} unlabeled rows")


if __name__ == "__main__":
    main()

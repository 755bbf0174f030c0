"""Cut the demo's pictures from Fashion-MNIST; run once, its result is committed. Not part of the product.

Source: Debian's package dataset-fashion-mnist, training set. The subset is a uniform draw without replacement,
not stratified, so that it is as uneven as what a team would upload.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 20_170_825
"""The day Fashion-MNIST was published; any number would do."""


def read(path: Path, header: int) -> NDArray[np.uint8]:
    """Read the bytes of an IDX file behind its header."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--count", type=int, default=1_200)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent.parent / "usl_backend" / "demo" / "data" / "fashion-mnist.npz",
    )
    arguments = parser.parse_args()
    labels = read(arguments.source / "train-labels-idx1-ubyte.gz", 8)
    images = read(arguments.source / "train-images-idx3-ubyte.gz", 16).reshape(len(labels), 28, 28)
    rows = np.sort(np.random.default_rng(SEED).choice(len(labels), arguments.count, replace=False))
    np.savez_compressed(arguments.out, images=images[rows], labels=labels[rows], rows=rows.astype(np.int32))
    size = arguments.out.stat().st_size
    print(f"{arguments.out}: {len(rows)} pictures, {size} bytes, per class {np.bincount(labels[rows])}")


if __name__ == "__main__":
    main()

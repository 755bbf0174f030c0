"""Pools with 20 % junk pictures: its share among the picks, and whether distances to neighbors give it away.

Junk is one quarter each: white noise, plain grey, faint noise on grey, blurred blobs. The pool is the demo's
Fashion-MNIST. A row counts as far from everything where the root mean squared distance to its 20 nearest neighbors is
more than 3.5 robust standard deviations above the median.

    python benchmarks/junk.py
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from usl_backend.demo import dataset
from usl_backend.encoders import load as load_encoder
from usl_backend.selection import USL, nearest_neighbors
from usl_backend.selection.rows.preparation import fit_projection

PER_CLASS = (1, 2, 4, 10)
FAR = 3.5


def junk(number: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Make a grey picture of 28 x 28 pixels without content, of one of four kinds by its number."""
    noise = rng.integers(0, 256, (28, 28), dtype=np.uint8)
    faint = rng.normal(rng.integers(30, 220), rng.integers(2, 60), (28, 28)).clip(0, 255).astype(np.uint8)
    blobs = np.asarray(Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).resize((28, 28)))
    return (noise, np.full_like(noise, rng.integers(0, 256)), faint, blobs)[number % 4]


def far(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which rows are far from everything."""
    projected = fit_projection(rows, dimensions=128).apply(rows)
    apart = np.sqrt(nearest_neighbors(projected, k=20).distances.mean(axis=1))
    middle = np.median(apart)
    return np.asarray(apart - middle > FAR * 1.4826 * np.median(np.abs(apart - middle)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rng, held = np.random.default_rng(0), dataset.load()
    pictures = [*held.images, *(junk(number, rng) for number in range(len(held.images) // 4))]
    is_junk = np.arange(len(pictures)) >= len(held.images)
    encoder = load_encoder("efficientnet-lite0", image_size=128)
    side = (encoder.size, encoder.size)
    decoded = [np.asarray(Image.fromarray(one).convert("RGB").resize(side)) for one in pictures]
    rows = np.concatenate([encoder.encode(decoded[at : at + 256]) for at in range(0, len(decoded), 256)])
    flagged = far(rows)
    print(f"far from everything: {flagged[is_junk].sum()} of {is_junk.sum()} junk pictures, ", end="")
    print(f"{flagged[~is_junk].sum()} of {(~is_junk).sum()} others")
    print("| per class | junk among the picks |\n|---|---|")
    classes = len(np.unique(held.labels))
    for per_class in PER_CLASS:
        found = [
            is_junk[USL().select(rows, budget=per_class * classes, rng=seed).indices].mean()
            for seed in range(arguments.seeds)
        ]
        print(f"| {per_class} | {100 * np.mean(found):.0f} % |", flush=True)


if __name__ == "__main__":
    main()

"""Class names as guidance for texts at one label per class: what true names gain, and what meaningless ones cost.

Guided picks: every text goes to the class name that it is nearest to (both centred on their own), and of the
quarter of each name's texts that are nearest to it the one nearest to their mean is picked; names without texts leave
their pick to the default. Meaningless names are drawn from words that name no class. Accuracy is that of 1-NN.

    python benchmarks/class_names.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from make_demo_data import SECTIONS
from numpy.typing import NDArray
from selection_data import load

from usl_backend.encoders import load as load_encoder
from usl_backend.evaluation import nearest_neighbor_accuracy
from usl_backend.selection import USL
from usl_backend.selection.rows.preparation import fit_projection

MEANINGLESS: dict[str, tuple[str, ...]] = {
    "letters": tuple("ABCDEFGH"),
    "numbers": tuple(f"class {number}" for number in range(1, 9)),
    "other words": ("apple", "Tuesday", "green", "maybe", "north", "seven", "quickly", "table"),
    "judgements": ("good", "bad", "unclear", "other", "spam", "duplicate", "urgent", "review"),
}


def guided(rows: NDArray[np.float32], names: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """Pick a row for each class name."""
    centred = rows - rows.mean(axis=0)
    near = centred @ (names - names.mean(axis=0)).T
    own = near.argmax(axis=1)
    picks = []
    for number in range(len(names)):
        mine = np.flatnonzero(own == number)
        if len(mine):
            best = mine[np.argsort(-near[mine, number])[: max(1, len(mine) // 4)]]
            picks.append(int(best[(centred[best] @ centred[best].mean(axis=0)).argmax()]))
    others = USL().select(rows, budget=len(names), rng=seed).indices
    return np.array([*picks, *[one for one in others.tolist() if one not in picks]][: len(names)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/usl-backend-benchmarks").expanduser())
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    held = load("debian-minilm", cache=arguments.cache, data_dir=None)
    encoder = load_encoder("minilm")
    kinds: dict[str, Sequence[str] | None] = {
        "default, no names": None,
        "true names": SECTIONS,
        **MEANINGLESS,
    }
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for seed in range(arguments.seeds):
        order = np.random.default_rng(1000 + seed).permutation(len(held.rows))
        inside, outside = np.sort(order[: held.pool]), np.sort(order[held.pool :])
        projection = fit_projection(held.rows[inside], dimensions=128)
        rows, test = projection.apply(held.rows[inside]), projection.apply(held.rows[outside])
        for kind, names in kinds.items():
            if names is None:
                picks = USL().select(held.rows[inside], budget=len(SECTIONS), rng=seed).indices
            else:
                picks = guided(held.rows[inside], encoder.encode(list(names)), seed)
            found[kind].append(
                100
                * nearest_neighbor_accuracy(
                    rows[picks],
                    classes=held.classes[inside][picks],
                    test_rows=test,
                    test_classes=held.classes[outside],
                )
            )
    print("| names | 1-NN, 1 per class | minus the default |\n|---|---|---|")
    default = np.array(found["default, no names"])
    for kind, values in found.items():
        apart = np.array(values) - default
        print(
            f"| {kind} | {np.mean(values):.1f} ± {np.std(values):.1f} | {apart.mean():+.1f} ± {apart.std():.1f} |"
        )


if __name__ == "__main__":
    main()

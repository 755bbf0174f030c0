"""Agreement of clusters over halves of a pool, beside what picks gain over random ones: no warning came of it.

Two random halves of the pool are smoothed and clustered apart, each into as many clusters as picks, and
every row of the pool is put to the nearest center of either. Where the two clusterings agree hardly better than chance
(adjusted mutual information, 1 = the same), a warning would be given. Each cell shows the agreement and what the picks
gain over random ones, in points of accuracy, mean and standard error over pools. `NAME+2.5` is a set with noise of
2.5 of its s.d. in every column, `NAME?` one with its classes shuffled, `noise` rows without any structure.

    python benchmarks/no_gain_warning.py --data-dir FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from selection_data import FeatureSet, load
from selection_quality import Trial, accuracy, budgets, draw, select
from sklearn.metrics import adjusted_mutual_info_score

from usl_backend.selection import nearest_neighbors
from usl_backend.selection.rows.assignment import assign
from usl_backend.selection.rows.centrality import smooth
from usl_backend.selection.rows.kmeans import kmeans
from usl_backend.selection.rows.neighborhood import neighbor_count

SHOWN = (
    "noise", "digits", "digits+2", "fashion-lite0+3", "fashion-pixels", "clothing-lite0", "bbc-titles", "bbc-minilm?",
    "debian-minilm", "debian-tfidf",
)  # fmt: skip
DRAWS = 3
"""Random selections per pool."""


class Cell(NamedTuple):
    """Means over the pools of a set, a size and a budget."""

    name: str
    rows: int
    budget: int
    agreement: float
    gain: float
    error: float


def make(name: str, *, cache: Path, data_dir: Path | None) -> FeatureSet:
    """Load a set, or make one with noise or with shuffled classes."""
    rng = np.random.default_rng(5)
    if name == "noise":
        rows = rng.normal(size=(3000, 64)).astype(np.float32)
        return FeatureSet(name, rows, rng.integers(0, 10, 3000), 2000)
    plain, _, noise = name.rstrip("?").partition("+")
    held = load(plain, cache=cache, data_dir=data_dir)
    if name.endswith("?"):
        return replace(held, name=name, classes=rng.permutation(held.classes))
    if not noise:
        return held
    some = rng.permutation(len(held.rows))[:6000]
    rows = held.rows[some]
    rows = rows + (float(noise) * rows.std() * rng.normal(size=rows.shape)).astype(np.float32)
    return replace(held, name=name, rows=rows, classes=held.classes[some], pool=min(held.pool, 4000))


def agreement(trial: Trial, budget: int) -> float:
    """Cluster two halves apart and compare what they say of all rows."""
    order = np.random.default_rng(7).permutation(len(trial.rows))
    labels: list[NDArray[np.int32]] = []
    for half in np.array_split(order, 2):
        rows = trial.rows[np.sort(half)]
        near = nearest_neighbors(rows, k=neighbor_count("auto", rows=len(rows), clusters=budget))
        found = kmeans(smooth(rows, near.indices), clusters=budget, rng=np.random.default_rng(0), restarts=3)
        labels.append(assign(trial.rows, found.centers.astype(np.float32)).labels)
    return float(adjusted_mutual_info_score(*labels))


def measure(held: FeatureSet, *, seeds: int, pools: tuple[int, ...]) -> Iterator[Cell]:
    """Yield the cells of a set."""
    for pool in pools:
        trials = [draw(held, seed=20 + seed, pool=pool) for seed in range(seeds)]
        for _, budget in budgets((0.5, 1, 2, 4, 10), count=trials[0].count, rows=len(trials[0].rows)):
            same, gains = [], []
            for seed, trial in enumerate(trials):
                rng = np.random.default_rng(seed)
                chance = [
                    np.mean(accuracy(trial, rng.choice(len(trial.rows), budget, replace=False)))
                    for _ in range(DRAWS)
                ]
                gains.append(np.mean(accuracy(trial, select("usl", trial, budget, seed))) - np.mean(chance))
                same.append(agreement(trial, budget))
            error = float(np.std(gains, ddof=1) / len(gains) ** 0.5)
            yield Cell(
                held.name, len(trials[0].rows), budget, float(np.mean(same)), float(np.mean(gains)), error
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=list(SHOWN))
    parser.add_argument("--seeds", type=int, default=3, help="pools per set and size")
    parser.add_argument("--data-dir", type=Path, help="folder with clothing.zip")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "usl-backend-benchmarks")
    options = parser.parse_args()
    cells = []
    for name in options.sets:
        held = make(name, cache=options.cache, data_dir=options.data_dir)
        for cell in measure(held, seeds=options.seeds, pools=(300, 600)):
            cells.append(cell)
            print(
                f"{cell.name:16s} {cell.budget:4d} of {cell.rows}: agreement {cell.agreement:.2f}, "
                f"gain {cell.gain:+.1f} ± {cell.error:.1f}",
                flush=True,
            )
    for border in (0.05, 0.1, 0.15, 0.2, 0.3):
        warned = [cell for cell in cells if cell.agreement < border]
        wrong = [cell for cell in warned if cell.gain > 2 * cell.error]
        missed = [cell for cell in cells if cell.agreement >= border and cell.gain <= 2 * cell.error]
        print(
            f"below {border}: {len(warned)} cells warned of, {len(wrong)} of them gain; {len(missed)} others do not"
        )


if __name__ == "__main__":
    main()

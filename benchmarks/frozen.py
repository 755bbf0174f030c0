"""Labels of chosen rows against labels of random rows on frozen embeddings: propagation and a self-trained probe.

    python benchmarks/frozen.py --cache DIR --data-dir DIR

For every feature set and budget: accuracy of label propagation over the neighbor graph, and of a linear probe that is
trained again on its own confident answers (pseudo-labels) after it was trained on the labels; the first probe stands
beside it. Chosen (the default), random, and class-balanced random, an oracle. Every seed draws a new pool.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from selection_data import SETS, load

RESULTS = Path(__file__).parent / "results" / "frozen.json"
WAYS = ("chosen", "random", "balanced")
MEASURES = ("propagation", "probe", "pseudo-labels")
CONFIDENT = 0.5
"""Share of the pool, per class the probe's surest, that is believed."""


def choose(
    way: str, rows: NDArray[np.float32], classes: NDArray[np.int64], *, budget: int, seed: int
) -> NDArray[np.int64]:
    """Choose rows of the pool to label."""
    from usl_backend import USL

    if way == "chosen":
        return USL().select(rows, budget, rng=seed).indices
    rng = np.random.default_rng(seed)
    if way == "random":
        return rng.choice(len(rows), budget, replace=False)
    kinds = np.unique(classes)
    each, more = divmod(budget, len(kinds))
    drawn = []
    for place, kind in enumerate(rng.permutation(kinds)):
        of_kind = np.flatnonzero(classes == kind)
        drawn.append(rng.choice(of_kind, min(each + (place < more), len(of_kind)), replace=False))
    return np.concatenate(drawn)


def probe(
    rows: NDArray[Any], classes: NDArray[Any], others: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Predict by a ridge classifier on centered rows; return answers and how far ahead each is of the second."""
    kinds = np.unique(classes)
    truth = np.where(classes[:, None] == kinds, 1.0, -1.0)
    mean = rows.mean(0)
    inputs = (rows - mean).astype(np.float64)
    gram = inputs @ inputs.T + 0.1 * np.trace(inputs @ inputs.T) / len(inputs) * np.eye(len(inputs))
    weights = inputs.T @ np.linalg.solve(gram, truth - truth.mean(0))
    scores = (others - mean) @ weights + truth.mean(0)
    if len(kinds) == 1:
        return np.full(len(others), kinds[0]), np.zeros(len(others))
    first, second = np.sort(scores, axis=1)[:, [-1, -2]].T
    return kinds[scores.argmax(1)], first - second


def measure(
    rows: NDArray[np.float32],
    classes: NDArray[np.int64],
    picks: NDArray[np.int64],
    neighbors: Any,
    test_rows: NDArray[np.float32],
    test_classes: NDArray[np.int64],
) -> dict[str, float]:
    """Compute all figures of one selection."""
    from usl_backend.evaluation import linear_accuracy, propagation_accuracy

    spread = propagation_accuracy(neighbors, picks=picks, classes=classes[picks], truth=classes)
    alone = linear_accuracy(
        rows[picks], classes=classes[picks], test_rows=test_rows, test_classes=test_classes
    )
    guesses, ahead = probe(rows[picks], classes[picks], rows)
    believed = [picks]
    for kind in np.unique(guesses):
        members = np.flatnonzero(guesses == kind)
        believed.append(members[np.argsort(-ahead[members])[: max(1, int(CONFIDENT * len(members)))]])
    guesses[picks] = classes[picks]
    chosen = np.unique(np.concatenate(believed))[:: max(1, sum(map(len, believed)) // 2000)]
    chosen = np.union1d(chosen, picks)
    again = linear_accuracy(
        rows[chosen], classes=guesses[chosen], test_rows=test_rows, test_classes=test_classes
    )
    return {"propagation": spread, "probe": alone, "pseudo-labels": again}


def main() -> None:
    from usl_backend import USL
    from usl_backend.selection import nearest_neighbors

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--per-class", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pool", type=int, default=5_000)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    print("| set | labels per class | measure | chosen | random | balanced | - random | - balanced |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.sets:
        found = load(name, cache=options.cache, data_dir=options.data_dir)
        size, kinds = min(options.pool, found.pool), int(found.classes.max()) + 1
        for seed in range(options.seeds):
            order = np.random.default_rng(seed).permutation(len(found.rows))
            pool, test = order[:size], order[found.pool :][:5_000]
            prepared = USL().prepare(found.rows[np.concatenate([pool, test])])
            rows, test_rows = prepared[:size], prepared[size:]
            graph = nearest_neighbors(rows, k=20)
            for per_class in options.per_class:
                for way in WAYS:
                    picks = choose(
                        way, found.rows[pool], found.classes[pool], budget=per_class * kinds, seed=seed
                    )
                    figures = measure(rows, found.classes[pool], picks, graph, test_rows, found.classes[test])
                    results.append({"set": name, "seed": seed, "per_class": per_class, "way": way, **figures})
        report([entry for entry in results if entry["set"] == name])
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1))


def report(results: list[dict[str, Any]]) -> None:
    """Print the rows of a Markdown table: mean and s.d. of each way, and the gaps of chosen to the others."""
    for per_class in sorted({entry["per_class"] for entry in results}):
        for name in MEASURES:
            cells, means = [], {}
            for way in WAYS:
                values = [100 * e[name] for e in results if (e["per_class"], e["way"]) == (per_class, way)]
                means[way] = float(np.mean(values))
                cells.append(f"{means[way]:.1f} +- {np.std(values, ddof=1):.1f}")
            gaps = [f"{means['chosen'] - means[other]:+.1f}" for other in WAYS[1:]]
            print(
                f"| {results[0]['set']} | {per_class} | {name} | {' | '.join([*cells, *gaps])} |", flush=True
            )


if __name__ == "__main__":
    main()

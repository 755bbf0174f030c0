"""What must hold of the default whatever it looks at: repeats, labeled rows and near-duplicates, beside 20 neighbors.

- repeats: cells whose selection has the same bits again, with one thread and with two.
- labeled rows: five rows of every second class are labeled, and so many picks bought as the other classes ask for;
  share of the picks that are of the other classes, and the share of those among the rows to choose from.
- near-duplicates: a fifth of the rows has a copy at a squared distance below the radius; picks that repeat another.

    python benchmarks/invariants.py --sets digits debian-minilm clusters-64
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from selection_data import SETS, load
from selection_quality import Trial, budgets, draw, seed_range

from usl_backend.selection import USL

LABELS = 5
RADIUS = 0.01
WAYS: dict[str, dict[str, Any]] = {"auto": {}, "20 neighbors": {"neighbors": 20}}
FIGURES = ("repeated", "of unlabeled classes", "as many at random", "repeating picks")


def repeated(trial: Trial, budget: int, options: dict[str, Any]) -> bool:
    """Tell whether a selection has the same bits again, on any number of threads."""
    first, *others = (
        USL(**options, workers=workers).select(trial.rows, budget, rng=0) for workers in (1, 1, 2)
    )
    return all(
        getattr(first, name).tobytes() == getattr(other, name).tobytes()
        for other in others
        for name in ("indices", "gain", "score", "cluster")
    )


def unlabeled_share(
    trial: Trial, each: float, options: dict[str, Any], rng: np.random.Generator
) -> tuple[float, float] | None:
    """Return the share of classes without labels among the picks and the rows; None for no or too many picks."""
    kinds = rng.permutation(trial.count)
    known = kinds[: trial.count // 2]
    held = np.concatenate([np.flatnonzero(trial.classes == kind)[:LABELS] for kind in known])
    rest = np.setdiff1d(np.arange(len(trial.rows)), held)
    budget = round(each * (trial.count - len(known)))
    if not 3 <= budget <= len(rest) // 2:
        return None
    picks = USL(**options).select(trial.rows, budget, rng=0, labeled=np.sort(held)).indices
    return float(np.isin(trial.classes[picks], known, invert=True).mean()), float(
        np.isin(trial.classes[rest], known, invert=True).mean()
    )


def repeats_of_picks(
    rows: NDArray[np.float32], budget: int, options: dict[str, Any], rng: np.random.Generator
) -> int:
    """Count the picks that nearly equal an earlier one, in a pool with copies."""
    some = rows[rng.permutation(len(rows))[: len(rows) // 5]]
    noise = rng.standard_normal(some.shape)
    copies = some + 0.5 * RADIUS**0.5 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    pool = np.concatenate([rows, copies.astype(np.float32)])
    picks = pool[USL(**options).select(pool, budget, rng=0).indices].astype(np.float64)
    near = ((picks[:, None] - picks[None]) ** 2).sum(axis=2) <= RADIUS
    return int(np.triu(near, 1).any(axis=0).sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets", nargs="+", default=["digits", "debian-minilm", "clusters-64"], choices=list(SETS)
    )
    parser.add_argument("--pools", type=int, nargs="+", default=[300, 600])
    parser.add_argument("--seeds", type=seed_range, default=seed_range("10-11"))
    parser.add_argument("--per-class", type=float, nargs="+", default=[0.5, 1.0, 4.0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "usl-backend-benchmarks")
    given = parser.parse_args()
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for name in given.sets:
        held = load(name, cache=given.cache, data_dir=given.data_dir)
        for pool in given.pools:
            for seed in given.seeds:
                trial = draw(held, seed=seed, pool=pool)
                for each, budget in budgets(given.per_class, count=trial.count, rows=len(trial.rows)):
                    for way, extra in WAYS.items():
                        options = {"projection": 0, "normalize": False} | extra
                        shares = unlabeled_share(trial, each, options, np.random.default_rng(seed))
                        found[way].append(
                            [
                                repeated(trial, budget, options),
                                *(shares or (np.nan, np.nan)),
                                repeats_of_picks(trial.rows, budget, options, np.random.default_rng(seed)),
                            ]
                        )
        print(f"{name}: {len(found['auto'])} cells so far", flush=True)
    print(f"| | {' | '.join(FIGURES)} |\n|---|---|---|---|---|")
    for way, values in found.items():
        table = np.array(values)
        same, of_others, at_random = (np.nanmean(table[:, column]) for column in range(3))
        print(
            f"| {way} | {100 * same:.0f} % of {len(table)} | {100 * of_others:.1f} % | {100 * at_random:.1f} % "
            f"| {int(table[:, 3].sum())} |"
        )
    apart = np.array(found["auto"])[:, 1] - np.array(found["20 neighbors"])[:, 1]
    apart = 100 * apart[~np.isnan(apart)]
    print(
        f"of unlabeled classes, auto - 20: {apart.mean():+.1f} ± {apart.std(ddof=1) / len(apart) ** 0.5:.1f} points"
    )


if __name__ == "__main__":
    main()

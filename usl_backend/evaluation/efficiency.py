"""Label efficiency of selection methods, replayed on rows with known classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import InputError
from usl_backend.evaluation.accuracy import linear_accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress
    from usl_backend.selection import Selector

RANDOM = "random"
TEST_SHARE = 0.3
"""Share of the rows that is held out for testing."""
FEWEST = 40
"""Rows below which a figure says nothing."""


@dataclass(frozen=True)
class Efficiency:
    """Accuracy over budget, per method.

    Attributes
    ----------
    budgets
        Numbers of labels, ascending.
    accuracy
        Method -> (budgets, seeds) float64: share of correct classes on held-out rows, 0 to 1; higher = better.
        Always contains `random`.
    covered
        Method -> (budgets, seeds) float64: share of the classes with at least one label.
    random_budgets : (r,) int64
        Budgets of the longer random curve used for `random_equivalent`.
    random_accuracy : (r,) float64
        Mean accuracy of that curve, made non-decreasing.
    rows, classes
        Number of rows and classes.
    """

    budgets: tuple[int, ...]
    accuracy: Mapping[str, NDArray[np.float64]]
    covered: Mapping[str, NDArray[np.float64]]
    random_budgets: NDArray[np.int64]
    random_accuracy: NDArray[np.float64]
    rows: int
    classes: int

    def random_equivalent(self, method: str, place: int) -> float | None:
        """Return the number of random labels that reach a method's accuracy; None if the pool has too few.

        The first of `random_budgets` stands for fewer, too.

        Parameters
        ----------
        method
            Key of `accuracy`.
        place
            Position in `budgets`.
        """
        wanted = float(self.accuracy[method][place].mean())
        if wanted > self.random_accuracy[-1]:
            return None
        above = int(np.argmax(self.random_accuracy >= wanted))
        if above == 0:
            return float(self.random_budgets[0])
        low, high = self.random_accuracy[above - 1 : above + 1]
        begin, end = np.log(self.random_budgets[above - 1 : above + 1])
        return float(np.exp(begin + (end - begin) * (wanted - low) / (high - low)))


def replay(
    rows: NDArray[np.floating[Any]],
    classes: NDArray[np.integer[Any]],
    *,
    budgets: Sequence[int],
    methods: Mapping[str, Selector],
    seeds: int = 5,
    draws: int = 4,
    progress: Progress | None = None,
) -> Efficiency:
    """Select, label, train and test for every seed, budget and method.

    Each seed holds out different rows for testing. The trained model is a linear classifier on the embeddings.

    Parameters
    ----------
    rows : (n, d) float
        Embeddings.
    classes : (n,) integers
        Their classes, 0 or more.
    budgets
        Numbers of labels, each at most the size of the pool (70 % of the rows).
    methods
        Name -> selector, without random.
    seeds
        Number of test sets and of seeds of the methods, at least 2.
    draws
        Number of random selections per seed and budget.
    progress
        Receives the number of budgets done, over all seeds.

    Returns
    -------
    Efficiency

    Raises
    ------
    InputError
        Too few rows or classes, or a budget beyond the pool.
    """
    n, count = len(rows), int(classes.max()) + 1 if len(classes) else 0
    found = len(np.unique(classes))
    pool_size = n - round(TEST_SHARE * n)
    budgets = tuple(sorted(set(budgets)))
    if n < FEWEST or found < 2:
        raise InputError(
            f"evaluate needs {FEWEST} labeled rows in 2 classes, found {n}{f' in {found}' if n else ''}"
        )
    if not budgets or budgets[0] < 1 or budgets[-1] > pool_size:
        raise InputError(
            f"budgets {budgets} must lie between 1 and the pool of {pool_size} of {n} labeled rows"
        )
    unit = np.asarray(rows, dtype=np.float32)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    ladder = np.unique(np.geomspace(budgets[0], pool_size, 12).round().astype(np.int64))
    accuracy = {name: np.zeros((len(budgets), seeds)) for name in (*methods, RANDOM)}
    covered = {name: np.zeros((len(budgets), seeds)) for name in (*methods, RANDOM)}
    ladder_accuracy = np.zeros((len(ladder), seeds))
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        order = rng.permutation(n)
        pool, test = order[:pool_size], order[pool_size:]

        def score(
            picks: NDArray[np.int64], pool: NDArray[np.int64] = pool, test: NDArray[np.int64] = test
        ) -> float:
            chosen = pool[picks]
            return linear_accuracy(
                unit[chosen], classes=classes[chosen], test_rows=unit[test], test_classes=classes[test]
            )

        for place, budget in enumerate(budgets):
            for name, method in methods.items():
                picks = method.select(unit[pool], budget, rng=seed).indices
                accuracy[name][place, seed] = score(picks)
                covered[name][place, seed] = len(np.unique(classes[pool[picks]])) / count
            some = [rng.choice(pool_size, budget, replace=False) for _ in range(draws)]
            accuracy[RANDOM][place, seed] = np.mean([score(picks) for picks in some])
            covered[RANDOM][place, seed] = np.mean(
                [len(np.unique(classes[pool[picks]])) / count for picks in some]
            )
            if progress is not None:
                progress("replaying", seed * len(budgets) + place + 1, seeds * len(budgets))
        for place, budget in enumerate(ladder):
            ladder_accuracy[place, seed] = np.mean(
                [score(rng.choice(pool_size, int(budget), replace=False)) for _ in range(draws)]
            )
    return Efficiency(
        budgets=budgets,
        accuracy=accuracy,
        covered=covered,
        random_budgets=ladder,
        random_accuracy=np.maximum.accumulate(ladder_accuracy.mean(axis=1)),
        rows=n,
        classes=found,
    )

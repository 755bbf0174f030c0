"""Choose the next rows to label, by what the labels so far say. No labels are suggested here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from usl_backend.errors import SelectionError
from usl_backend.selection import USL, Selection
from usl_backend.selection.picking import nearest_projected_pick
from usl_backend.selection.rows.density import density
from usl_backend.selection.steering import select_inside
from usl_backend.suggestions.graph import NEIGHBORS
from usl_backend.suggestions.suggesting import suggest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress
    from usl_backend.selection import Neighbors, Selector

Rule = Literal["keep-labels", "least-sure-half", "smallest-margin"]
HALF_FROM: Final = 4.0
"""Labels per class from which the surer half of the pool is left out."""
MARGIN_FROM: Final = 10.0
"""Labels per class from which the rows between two classes are taken."""


@dataclass(frozen=True)
class NextRule:
    """How the next rows are chosen, and why.

    Attributes
    ----------
    rule
        keep-labels: by the method, labeled rows holding their clusters. least-sure-half: the same among the half of
        the rows with the least sure suggestions. smallest-margin: the rows whose best two classes are closest.
    labels, classes
        Labels so far, and classes that they could be of.
    """

    rule: Rule
    labels: int
    classes: int

    @property
    def per_class(self) -> float:
        """Labels per class."""
        return self.labels / self.classes

    def __str__(self) -> str:
        """Say in one sentence which rule it is and why."""
        what, when = {
            "keep-labels": ("labeled tasks hold their clusters", f"below {HALF_FROM:.0f}"),
            "least-sure-half": (
                "chosen among the least sure half of the tasks",
                f"from {HALF_FROM:.0f} to below {MARGIN_FROM:.0f}",
            ),
            "smallest-margin": ("the tasks whose best two classes are closest", f"from {MARGIN_FROM:.0f} on"),
        }[self.rule]
        return (
            f"next round by {self.rule} ({what}): {self.labels} labels of {self.classes} classes are "
            f"{self.per_class:.1f} per class, and {when} per class that was best"
        )


def next_rule(labels: int, *, classes: int) -> NextRule:
    """Return the rule for so many labels.

    Parameters
    ----------
    labels
        Labels so far.
    classes
        Classes that they could be of, at least 1.

    Notes
    -----
    Below 4 labels per class the rows that cover the pool are worth most, from 10 on those between two classes:
    measured by the accuracy after twice the labels, `docs/benchmarks.md`.
    """
    each = labels / max(classes, 1)
    rule: Rule = (
        "keep-labels" if each < HALF_FROM else "least-sure-half" if each < MARGIN_FROM else "smallest-margin"
    )
    return NextRule(rule, labels, max(classes, 1))


def next_round(
    rows: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    budget: int,
    *,
    rng: int,
    method: Selector | None = None,
    rule: Rule | None = None,
    held: NDArray[np.int64] | None = None,
    excluded: NDArray[np.int64] | None = None,
    neighbors: Neighbors | None = None,
    classes: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Selection:
    """Choose the next rows to label.

    Parameters
    ----------
    rows : (n, d) float16, float32 or float64
        The pool as an encoder gives it.
    labels : (n,) integers
        Class of each row, 0 or more; -1 where there is none.
    budget
        Rows to choose, at most those without a label.
    rng
        Seed of the selection, and above 5,000 rows of the neighbor search too.
    method
        Selection method of the first two rules; None: `USL()`.
    rule
        None: by labels per class (`next_rule`), and keep-labels where the labels are of fewer than two classes.
    held : (l,) int64
        Rows that must not be chosen and hold their clusters, those with a label included; None: those with a label.
    excluded : (e,) int64
        Further rows that must not be chosen, and hold none.
    neighbors
        Result of `method.search(rows)`.
    classes
        Number of classes; None: those that have a label.
    workers
        Threads of the neighbor search that suggestions need; no influence on the result.
    progress
        As for `Selector.select`.

    Returns
    -------
    Selection
        `diagnostics["next"]` says the rule and why. With smallest-margin `gain` is 1 - margin, the closest first.

    Raises
    ------
    SelectionError, InputError
        As for `Selector.select` and `suggest`.

    Notes
    -----
    The margin is the gap between the two largest means of the two softmaxes of `suggest`; the surety of a row is its
    largest mean.

    Source: Scheffer, Decomain, Wrobel, *Active Hidden Markov Models for Information Extraction*, 2001, for the margin.
    """
    method = USL() if method is None else method
    labels = np.asarray(labels)
    known = np.flatnonzero(labels >= 0)
    seen = len(np.unique(labels[known]))
    found = next_rule(len(known), classes=seen if classes is None else classes)
    if rule is not None:
        found = replace(found, rule=rule)
    elif seen < 2:
        found = replace(found, rule="keep-labels")
    taken = known if held is None else np.union1d(known, held)
    barred = taken if excluded is None else np.union1d(taken, excluded)
    free = np.setdiff1d(np.arange(len(labels)), barred)
    if budget > len(free):
        raise SelectionError(f"budget is {budget} but only {len(free)} rows have no label; lower the budget")
    if found.rule == "keep-labels":
        chosen = method.select(
            rows,
            budget,
            rng=rng,
            labeled=taken if len(taken) else None,
            excluded=excluded,
            neighbors=neighbors,
            progress=progress,
        )
    else:
        near = neighbors if neighbors is not None and neighbors.indices.shape[1] >= NEIGHBORS else None
        suggestions = suggest(rows, labels, neighbors=near, classes=classes, seed=rng, workers=workers)
        if found.rule == "smallest-margin":
            chosen = _closest(rows, suggestions.margin, free, budget, neighbors)
        else:
            least = free[np.lexsort((free, suggestions.confidence[free]))]
            inside = np.union1d(least[: max(budget, -(-len(free) // 2))], taken)
            chosen = select_inside(
                lambda part, held, _: method.select(part, budget, rng=rng, labeled=held, progress=progress),
                rows,
                inside,
                labeled=taken,
            )
    diagnostics = {
        **chosen.diagnostics,
        "next": {"rule": found.rule, "labels": found.labels, "classes": found.classes, "why": str(found)},
    }
    return replace(chosen, diagnostics=diagnostics)


def _closest(
    rows: NDArray[np.floating[Any]],
    margin: NDArray[np.float32],
    free: NDArray[np.int64],
    budget: int,
    neighbors: Neighbors | None,
) -> Selection:
    """Take the free rows of smallest margin, ties by row."""
    picks = free[np.lexsort((free, margin[free]))[:budget]]
    return Selection(
        indices=picks,
        gain=1.0 - margin[picks].astype(np.float64),
        score=None if neighbors is None else density(neighbors.distances, floor=1e-3).astype(np.float32),
        cluster=nearest_projected_pick(rows, picks),
        parameters={"method": "smallest-margin"},
    )

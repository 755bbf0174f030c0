"""Base of the methods that train nothing and search no neighbors before they choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from usl_backend.progress import Progress, ignore
from usl_backend.selection.base import Neighbors, Selection
from usl_backend.selection.parameters import Parameters, option
from usl_backend.selection.picking import nearest_pick
from usl_backend.selection.rows.preparation import (
    Projection,
    check_budget,
    check_embeddings,
    fit_projection,
    generator,
)
from usl_backend.selection.rows.threads import one_thread

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from usl_backend.selection.base import Checkpoint
    from usl_backend.selection.uslt.trainers import Trainer


class Untrained:
    """The part of `Selector` about training, for a method without one."""

    trains_on: ClassVar[None] = None

    def with_training(
        self,
        *,
        checkpoint: Checkpoint | None = None,  # noqa: ARG002
        trainer: Trainer | None = None,  # noqa: ARG002
    ) -> Self:
        """Return the method itself: it trains nothing."""
        return self


@dataclass(frozen=True)
class Problem:
    """Rows to choose from, and how many.

    Attributes
    ----------
    rows : (n, d) float32
        Centred, projected, unit-length.
    budget
        Picks wanted, at most the number of unlabeled rows.
    held : (l,) int64
        Labeled rows, never picked.
    barred : (b,) int64
        All rows that must not be picked: labeled and excluded ones, ascending.
    """

    rows: NDArray[np.float32]
    budget: int
    held: NDArray[np.int64]
    barred: NDArray[np.int64]
    rng: np.random.Generator
    report: Progress


@dataclass(frozen=True)
class Picks:
    """Chosen rows.

    Attributes
    ----------
    rows : (m,) int64
        In pick order.
    gain : (m,) float64
        Value that each pick added; higher = more; non-negative.
    score : (n,) float32 or None
        Higher = more typical.
    """

    rows: NDArray[np.int64]
    gain: NDArray[np.float64]
    score: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class RowMethod(Parameters, Untrained):
    """A method that needs nothing but rows: a subclass has a name, its options, and `choose`."""

    projection: int = option(
        128,
        "principal components kept after centring when there are more dimensions; 0 = leave rows as they are",
        least=0,
    )

    def choose(self, problem: Problem) -> Picks:
        """Choose `problem.budget` distinct rows outside `problem.barred`."""
        raise NotImplementedError

    def fit(self, embeddings: NDArray[np.floating[Any]]) -> Projection | None:  # noqa: ARG002
        """Return None: rows are projected once, to choose from them."""
        return None

    def search(
        self,
        embeddings: NDArray[np.floating[Any]],  # noqa: ARG002
        *,
        projection: Projection | None = None,  # noqa: ARG002
        progress: Progress | None = None,  # noqa: ARG002
    ) -> Neighbors | None:
        """Return None: no neighbors are needed."""
        return None

    def select(
        self,
        embeddings: NDArray[np.floating[Any]],
        budget: int,
        *,
        rng: int | np.random.Generator,
        labeled: NDArray[np.int64] | None = None,
        excluded: NDArray[np.int64] | None = None,
        projection: Projection | None = None,
        neighbors: Neighbors | None = None,  # noqa: ARG002 - none is needed
        progress: Progress | None = None,
    ) -> Selection:
        """Choose `budget` distinct rows.

        Parameters
        ----------
        embeddings : (n, d) float16, float32 or float64
            Finite; any memory layout; may be memory-mapped.
        budget
            Picks, 1 to the number of rows that are neither labeled nor excluded.
        rng
            Seed or generator.
        labeled : (l,) int64 or None
            Rows that have labels already; they count as chosen before, and are never picked.
        excluded : (e,) int64 or None
            Rows that are never picked; otherwise rows of the pool like all others.
        projection
            Of these embeddings; found here when None.
        neighbors
            Not used.
        progress
            Called as `progress(step, done, total)`; what it raises passes through.

        Raises
        ------
        SelectionError
            Input that no selection can be made from; the message names the value.
        """
        check_embeddings(embeddings)
        budget, held, barred = check_budget(budget, n=len(embeddings), labeled=labeled, excluded=excluded)
        report = progress or ignore
        with one_thread():
            report("projecting rows", 0, 1)
            projection = projection or fit_projection(embeddings, dimensions=self.projection)
            rows = projection.apply(embeddings)
            report("projecting rows", 1, 1)
            picks = self.choose(Problem(rows, budget, held, np.union1d(held, barred), generator(rng), report))
            cluster = nearest_pick(rows, picks.rows)
        return Selection(
            indices=picks.rows,
            gain=picks.gain,
            score=picks.score,
            cluster=cluster,
            parameters={"method": self.name, **self.values()},
        )

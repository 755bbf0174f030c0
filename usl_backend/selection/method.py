"""What every method but USL shares: checks, projection, and the result built from picks. No method lives here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from usl_backend.progress import Progress
from usl_backend.selection.base import Neighbors, Selection
from usl_backend.selection.parameters import option, resolve
from usl_backend.selection.rows.preparation import (
    check_budget,
    check_embeddings,
    fit_projection,
    generator,
    squared_distances,
)
from usl_backend.selection.rows.threads import one_thread, row_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True)
class RowParameters:
    """Options of a method that only needs rows."""

    projection: int = option(
        128,
        "principal components kept after centring when there are more dimensions; 0 = leave rows as they are",
        least=0,
    )


@dataclass(frozen=True)
class Task:
    """What a method works on.

    Attributes
    ----------
    rows : (n, d) float32
        Centred, projected, unit-length.
    budget
        Picks wanted, at most the number of unlabeled rows.
    held : (l,) int64
        Labeled rows, never picked.
    rng
        Source of randomness.
    neighbors
        A search made before, or None.
    report
        Called as `report(step, done, total)`.
    """

    rows: NDArray[np.float32]
    budget: int
    held: NDArray[np.int64]
    rng: np.random.Generator
    neighbors: Neighbors | None
    report: Progress


@dataclass(frozen=True)
class Picks:
    """What a method found.

    Attributes
    ----------
    rows : (m,) int64
        In pick order.
    gain : (m,) float64
        What each pick added; higher = more; non-negative.
    score : (n,) float32 or None
        Higher = more typical.
    cluster : (n,) int32 or None
        Position of the pick that stands for each row; None = the nearest pick.
    """

    rows: NDArray[np.int64]
    gain: NDArray[np.float64]
    score: NDArray[np.float32] | None = None
    cluster: NDArray[np.int32] | None = None


class Method:
    """Base of the baselines: a subclass names itself, its parameters, and implements `choose`."""

    name: ClassVar[str]
    parameters_type: ClassVar[type[Any]] = RowParameters
    presets: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, *, preset: str | None = None, **options: Any) -> None:
        self.parameters = resolve(
            self.parameters_type, method=self.name, presets=self.presets, preset=preset, options=options
        )

    def choose(self, task: Task) -> Picks:
        """Choose `task.budget` distinct rows outside `task.held`."""
        raise NotImplementedError

    def select(
        self,
        embeddings: NDArray[np.floating[Any]],
        budget: int,
        *,
        rng: int | np.random.Generator,
        labeled: NDArray[np.int64] | None = None,
        neighbors: Neighbors | None = None,
        progress: Progress | None = None,
    ) -> Selection:
        """Choose `budget` distinct rows of `embeddings` (n, d); see `Selector.select`."""
        check_embeddings(embeddings)
        budget, held = check_budget(budget, n=len(embeddings), labeled=labeled)

        def report(step: str, done: int, total: int) -> None:
            if progress is not None:
                progress(step, done, total)

        with one_thread():
            report("project", 0, 1)
            rows = fit_projection(embeddings, dimensions=self.parameters.projection).apply(embeddings)
            report("project", 1, 1)
            picks = self.choose(Task(rows, budget, held, generator(rng), neighbors, report))
            cluster = nearest_pick(rows, picks.rows) if picks.cluster is None else picks.cluster
        return Selection(
            indices=picks.rows,
            gain=picks.gain,
            score=picks.score,
            cluster=cluster,
            parameters={"method": self.name, **asdict(self.parameters)},
        )


def nearest_pick(rows: NDArray[np.floating[Any]], picks: NDArray[np.int64]) -> NDArray[np.int32]:
    """Position of the nearest pick for every row; a pick stands for itself.

    Parameters
    ----------
    rows : (n, d) float
    picks : (m,) int64

    Returns
    -------
    (n,) int32
    """
    result = np.empty(len(rows), dtype=np.int32)
    for block in row_blocks(len(rows), size=max(1, 4_000_000 // len(picks))):
        result[block] = squared_distances(rows[block], rows[picks]).argmin(axis=1)
    result[picks] = np.arange(len(picks), dtype=np.int32)
    return result


def stand_in(
    rows: NDArray[np.floating[Any]], cluster: NDArray[np.int32], picks: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Nearest pick for rows whose cluster has none (-1).

    Parameters
    ----------
    rows : (n, d) float
    cluster : (n,) int32
        Position of the pick that stands for each row, or -1.
    picks : (m,) int64

    Returns
    -------
    (n,) int32
    """
    cluster = cluster.copy()
    lost = np.flatnonzero(cluster < 0)
    for part in row_blocks(len(lost), size=4096):
        cluster[lost[part]] = squared_distances(rows[lost[part]], rows[picks]).argmin(axis=1)
    return cluster

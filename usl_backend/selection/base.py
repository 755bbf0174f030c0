"""The data of a selection: neighbors found before it, the state it keeps while it trains, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Checkpoint(Protocol):
    """Keeps the state of a training between epochs."""

    def read(self) -> bytes | None:
        """Return what was written last; None where nothing was."""
        ...

    def write(self, content: bytes) -> None:
        """Replace what is kept, whole or not at all."""
        ...


@dataclass(frozen=True)
class Neighbors:
    """The k nearest neighbors of every row, itself excluded unless a preset says otherwise.

    Attributes
    ----------
    indices : (n, k) int32
        Rows, nearest first; ties by row.
    distances : (n, k) float32, or float64 where the rows are
        Squared Euclidean distances, ascending.
    exact
        True where every neighbor is guaranteed to be right.
    places : (n,) int32 or None
        Where the search put each row: rows near each other have places near each other, so that a pass over rows and
        their neighbors is faster in that order. None where it put them nowhere.
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.floating[Any]]
    exact: bool
    places: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class Selection:
    """The chosen rows and why.

    Attributes
    ----------
    indices : (m,) int64
        Chosen rows in pick order: every prefix is itself a good selection. All distinct.
    gain : (m,) float64
        Value that each pick added when it was made; higher = more. Non-negative.
    score : (n,) float32 or None
        The method's score of every row; higher = more typical. None where a method has none.
    cluster : (n,) int32
        Position in `indices` of the pick that stands for each row: the row's cluster, or its nearest pick
        where a method has no clusters. `cluster[indices[r]] == r`.
    parameters
        The method's name and every option's value, JSON-able.
    diagnostics
        Findings about the rows and the computation, JSON-able.
    """

    indices: NDArray[np.int64]
    gain: NDArray[np.float64]
    score: NDArray[np.float32] | None
    cluster: NDArray[np.int32]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

"""What every selection method shares: the Selector protocol and its result. No method lives here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usl_backend.progress import Progress


class Checkpoint(Protocol):
    """Keeps the state of a training between epochs; where, is its own affair."""

    def read(self) -> bytes | None:
        """What was written last; None where nothing was."""
        ...

    def write(self, content: bytes) -> None:
        """Replace what is kept, whole or not at all."""
        ...


@dataclass(frozen=True)
class Neighbors:
    """The k nearest neighbours of every row, itself excluded unless a preset says otherwise.

    Attributes
    ----------
    indices : (n, k) int32
        Rows, nearest first; ties by row.
    distances : (n, k) float32, or float64 where the rows are
        Squared Euclidean distances, ascending.
    exact
        Whether every neighbour is guaranteed to be right.
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.floating[Any]]
    exact: bool


@dataclass(frozen=True)
class Selection:
    """The chosen rows and why.

    Attributes
    ----------
    indices : (m,) int64
        Chosen rows in pick order: every prefix is itself a good selection. All distinct.
    gain : (m,) float64
        What each pick added when it was made; higher = more. Non-negative.
    score : (n,) float32 or None
        The method's score of every row; higher = more typical. None where a method has none.
    cluster : (n,) int32
        Position in `indices` of the pick that stands for each row: the row's cluster, or its nearest pick
        where a method has no clusters. `cluster[indices[r]] == r`.
    parameters
        The resolved parameters, JSON-able.
    diagnostics
        What the method noticed, JSON-able.
    """

    indices: NDArray[np.int64]
    gain: NDArray[np.float64]
    score: NDArray[np.float32] | None
    cluster: NDArray[np.int32]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


class Selector(Protocol):
    """A selection method: parameters in the constructor, data in `select`.

    `parameters_type` is the frozen dataclass of its options (each field has a default and
    `metadata={"help": ...}`); `presets` are named instances of it. Settings, flags and the reference are derived
    from these two, so an option is written once.
    """

    parameters_type: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, Any]]

    def __init__(self, *, preset: str | None = None, **options: Any) -> None: ...

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
        """Choose `budget` distinct rows of `embeddings` (n, d).

        `rng` is an int seed or a Generator; `labeled` are rows that already have labels and hold their
        clusters; `neighbors` re-uses a search made before. Raises `SelectionError` on input that no selection
        can be made from, naming the value.
        """
        ...

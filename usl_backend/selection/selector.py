"""The protocol of a selection method: everything that a run, a report or a setting asks of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usl_backend.progress import Progress
    from usl_backend.selection.base import Checkpoint, Neighbors, Selection
    from usl_backend.selection.parameters import MethodOption
    from usl_backend.selection.rows.preparation import Projection
    from usl_backend.selection.uslt.trainers import Trainer


class Selector(Protocol):
    """A selection method: options in the constructor, data in `select`.

    Settings, flags and the reference are derived from `options` and `presets`, so an option is written once.
    """

    name: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]

    @classmethod
    def options(cls) -> Mapping[str, MethodOption]:
        """Option name -> its type, default, meaning and bounds."""
        ...

    def values(self) -> dict[str, Any]:
        """Option name -> value in use, JSON-able."""
        ...

    @property
    def trains_on(self) -> Literal["embeddings", "pictures"] | None:
        """Input of the training that comes before the choice; None where nothing is trained."""
        ...

    def with_training(
        self, *, checkpoint: Checkpoint | None = None, trainer: Trainer | None = None
    ) -> Selector:
        """Return the same method with a place for its training's state and with a trainer of its own.

        A method that trains nothing returns itself. One that trains on pictures needs a trainer that has them.
        """
        ...

    def fit(self, embeddings: NDArray[np.floating[Any]]) -> Projection | None:
        """Find the projection that both `search` and `select` need, to compute it once and pass it to both.

        None where only `select` needs one, or nothing is projected.
        """
        ...

    def search(
        self,
        embeddings: NDArray[np.floating[Any]],
        *,
        projection: Projection | None = None,
        progress: Progress | None = None,
    ) -> Neighbors | None:
        """Find the neighbors that `select` would search on the same embeddings, to keep them and pass them in.

        `projection` is the result of `fit`. None where the method searches none, or there is a single row.
        """
        ...

    def select(
        self,
        embeddings: NDArray[np.floating[Any]],
        budget: int,
        *,
        rng: int | np.random.Generator,
        labeled: NDArray[np.int64] | None = None,
        excluded: NDArray[np.int64] | None = None,
        projection: Projection | None = None,
        neighbors: Neighbors | None = None,
        progress: Progress | None = None,
    ) -> Selection:
        """Choose `budget` distinct rows of `embeddings` (n, d).

        `rng` is an int seed or a Generator; `labeled` are rows that already have labels and hold their
        clusters; `excluded` are rows like all others that are never picked; `projection` is the result of `fit`,
        `neighbors` that of `search`.
        Raises `SelectionError` on input that no selection can be made from, naming the value.
        """
        ...

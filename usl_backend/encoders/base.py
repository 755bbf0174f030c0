"""What every encoder offers; no encoder lives here, and none reads files: pictures come decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usl_backend.instances import Modality


class Encoder(Protocol):
    """Turns pictures or texts into unit-length rows.

    Attributes
    ----------
    key
        Names weights, input size and preprocessing: equal keys, equal rows. Fit for a folder name.
    modality
        What `encode` takes.
    dim
        Columns of a row.
    size
        Side in pixels of the square pictures that `encode` takes; 0 for texts.
    """

    @property
    def key(self) -> str:
        """Name of the rows."""
        ...

    @property
    def modality(self) -> Modality:
        """What is encoded."""
        ...

    @property
    def dim(self) -> int:
        """Columns of a row."""
        ...

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        ...

    def encode(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        """Encode any number of instances.

        Parameters
        ----------
        batch
            (size, size, 3) uint8 red-green-blue pictures, or texts.

        Returns
        -------
        (b, dim) float32
            Unit-length rows in the order of `batch`; a row does not depend on its neighbours in the batch.
        """
        ...

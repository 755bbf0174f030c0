"""What every encoder offers and is built from; no encoder lives here, and none reads media: pictures come decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from usl_backend.instances import Modality


@dataclass(frozen=True, slots=True)
class Request:
    """What an encoder is built from.

    Attributes
    ----------
    name
        The whole name, such as `torchvision:resnet50`.
    argument
        What stands behind the prefix: `resnet50`; "" for an encoder without one.
    image_size
        Side of the pictures in pixels; None for the size that the weights were made for.
    directory
        The host's directory of weights and vectors; None where there is none.
    """

    name: str
    argument: str
    image_size: int | None
    directory: Path | None


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

    @property
    def batch(self) -> int:
        """Instances per call of `encode` that keep it busy; more or fewer are taken too."""
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

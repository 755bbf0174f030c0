"""Protocol of encoders, and the request that they are built from. Encoders take decoded pictures or texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from usl_backend.encoders.engines import REFERENCE, Engine

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from usl_backend.instances import Modality


@dataclass(frozen=True, slots=True)
class Request:
    """Request for an encoder.

    Attributes
    ----------
    name
        Full name, such as `torchvision:resnet50`.
    argument
        The part after the prefix, such as `resnet50`; "" without one.
    image_size
        Side of the pictures in pixels; None for the size that the weights were trained with.
    directory
        The host's directory of weights and vectors, if configured.
    engine
        Engine of torch networks; families with an engine of their own ignore it.
    """

    name: str
    argument: str
    image_size: int | None
    directory: Path | None
    engine: Engine = REFERENCE


@dataclass(frozen=True, slots=True)
class HubPlace:
    """Repository of the Hugging Face hub with an encoder's weights.

    Attributes
    ----------
    repository
        Such as `timm/resnet18.a1_in1k`.
    files
        Files with the weights, of which the first that exists is wanted; empty if all files of the model are.
    target
        Path below the encoder directory: of the file without its suffix, or of the directory.
    """

    repository: str
    files: tuple[str, ...]
    target: str


def decodes_quickly(encoder: Encoder) -> bool:
    """Return True if an encoder takes pictures decoded by `decode_image(quick=True)`, which its key then says."""
    return bool(getattr(encoder, "quick", False))


class Encoder(Protocol):
    """Encoder of pictures or texts to unit-length rows."""

    @property
    def key(self) -> str:
        """Name of weights, input size and preprocessing: equal keys mean equal rows. Valid as a folder name."""
        ...

    @property
    def modality(self) -> Modality:
        """Modality of the input."""
        ...

    @property
    def dim(self) -> int:
        """Number of columns of a row."""
        ...

    @property
    def size(self) -> int:
        """Side in pixels of the square pictures to encode; 0 for texts."""
        ...

    @property
    def batch(self) -> int:
        """Number of instances per call of `encode` that uses the hardware fully; any number is accepted."""
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
            Unit-length rows in the order of `batch`; a row does not depend on the others in the batch.
        """
        ...

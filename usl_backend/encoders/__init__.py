"""Encoders by name; loading this room loads no network library."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

from usl_backend.encoders.base import Encoder, Request
from usl_backend.encoders.files import is_free_path
from usl_backend.errors import EncoderError, nearest_name

if TYPE_CHECKING:
    from torch import nn

    from usl_backend.encoders.images import ImageNetwork
    from usl_backend.instances import Modality

__all__ = [
    "DEFAULTS",
    "ENCODERS",
    "Encoder",
    "Family",
    "backbone",
    "family_of",
    "free_path",
    "image_network",
    "load",
    "vector_field",
]

SMALLEST_IMAGE: Final = 32
"""Smallest side of a picture in pixels that an image network is given."""


@dataclass(frozen=True, slots=True)
class Family:
    """Encoders that are loaded the same way.

    Attributes
    ----------
    module
        File of this room with `build(Request)`, which gives an `ImageNetwork`, or `load(Request)`, which gives
        an `Encoder`; with both, `load` is the faster way to the same rows.
    modality
        What its encoders take; None where they look vectors up instead of encoding.
    form
        How a name is written, with what stands behind the prefix.
    extra
        Extra of this package that has to be installed; "" for none.
    weights
        Where the weights come from.
    files
        Whether what stands behind the prefix names a file, up to an `@`.
    """

    module: str
    modality: Modality | None
    form: str
    extra: str
    weights: str
    files: bool = False


ENCODERS: Final[dict[str, Family]] = {
    "efficientnet-lite0": Family(
        "efficientnet", "image", "efficientnet-lite0", "", "installed with this package (ImageNet, 1280-d)"
    ),
    "minilm": Family(
        "sentences", "text", "minilm", "text", "installed with the extra (all-MiniLM-L6-v2, 384-d)"
    ),
    "torchvision": Family(
        "torchvision_models",
        "image",
        "torchvision:MODEL or torchvision:WEIGHTS",
        "",
        "torchvision's own file, in the encoder directory or torch's hub cache",
    ),
    "sentence-transformers": Family(
        "sentences",
        "text",
        "sentence-transformers:NAME",
        "text",
        "a directory in the encoder directory, or the hub's cache",
        files=True,
    ),
    "timm": Family(
        "timm_models",
        "image",
        "timm:MODEL",
        "timm",
        "`MODEL.safetensors` in the encoder directory, or the hub's cache",
    ),
    "open_clip": Family(
        "open_clip_models",
        "image",
        "open_clip:MODEL or open_clip:MODEL/TAG",
        "open-clip",
        "`MODEL-TAG.safetensors` in the encoder directory",
    ),
    "onnx": Family(
        "onnx_models", "image", "onnx:NAME", "onnx", "the file in the encoder directory", files=True
    ),
    "checkpoint": Family(
        "checkpoint",
        "image",
        "checkpoint:NAME@ARCHITECTURE",
        "",
        "your own: a state dict or safetensors in the encoder directory, for a model of torchvision or timm",
        files=True,
    ),
    "precomputed": Family(
        "",
        None,
        "precomputed:NAME or precomputed:NAME@FIELD",
        "",
        "your own rows: .npy, .npz or .parquet in the encoder directory, by task id or by a field of the data",
        files=True,
    ),
    "field": Family("", None, "field:FIELD", "", "your own rows: a list of numbers in the task's data"),
}
"""Name, or what stands before its colon, -> family."""

DEFAULTS: Final[dict[Modality, str]] = {"image": "efficientnet-lite0", "text": "minilm"}
"""Modality -> encoder where nobody chooses one."""


def family_of(name: str) -> Family:
    """The family that a name belongs to; nothing is loaded.

    Parameters
    ----------
    name
        Such as `efficientnet-lite0` or `torchvision:resnet50`.

    Raises
    ------
    EncoderError
        Nobody knows the name, or something is missing behind its colon.
    """
    prefix, _, argument = name.partition(":")
    if prefix not in ENCODERS:
        raise EncoderError(f'unknown encoder "{name}"; {nearest_name(prefix, ENCODERS)}')
    family = ENCODERS[prefix]
    if bool(argument) != (":" in family.form):
        raise EncoderError(f'encoder "{name}" cannot be read; write {family.form}')
    return family


def free_path(name: str) -> str | None:
    """The path in an encoder's name that could lead out of the encoder directory; None where there is none.

    Parameters
    ----------
    name
        Such as `checkpoint:/home/team/moco.pt@resnet50`.
    """
    prefix, _, argument = name.partition(":")
    path = argument.partition("@")[0]
    return path if prefix in ENCODERS and ENCODERS[prefix].files and is_free_path(path) else None


def vector_field(name: str) -> str:
    """The field of a task's data by which vectors are found; "" for the task's id.

    Parameters
    ----------
    name
        An encoder that looks vectors up: `precomputed:NAME`, `precomputed:NAME@FIELD` or `field:FIELD`.
    """
    prefix, _, argument = name.partition(":")
    return argument if prefix == "field" else argument.partition("@")[2]


def load(name: str, *, image_size: int | None = None, directory: Path | None = None) -> Encoder:
    """Load an encoder with its weights.

    Parameters
    ----------
    name
        A key of `ENCODERS`, and behind a colon what its family wants.
    image_size
        Side to which pictures are scaled, in pixels; 32 or more. None: the encoder's own.
    directory
        The host's directory of weights and vectors, for families that read files.

    Returns
    -------
    Encoder
        Ready to encode.

    Raises
    ------
    EncoderError
        The name is unknown, the size is too small, or something has to be installed or put somewhere; the text
        says what.
    """
    request = _request(name, image_size, directory)
    family = _module(name)
    if hasattr(family, "load"):
        return cast("Encoder", family.load(request))
    from usl_backend.encoders.images import ImageEncoder

    return ImageEncoder(family.build(request))


def image_network(name: str, *, image_size: int | None = None, directory: Path | None = None) -> ImageNetwork:
    """The network behind an image encoder, for whoever wants more of it than rows.

    Parameters
    ----------
    name, image_size, directory
        As for `load`.

    Raises
    ------
    EncoderError
        As `load`; or the encoder is not a torch network for pictures.
    """
    request = _request(name, image_size, directory)
    family = _module(name)
    if not hasattr(family, "build"):
        raise EncoderError(
            f"encoder {name} is not a torch network for pictures, so it cannot be trained; choose another, such as "
            f"{DEFAULTS['image']}"
        )
    return cast("ImageNetwork", family.build(request))


def backbone(name: str, *, image_size: int | None = None, directory: Path | None = None) -> nn.Module:
    """The network behind an image encoder, for training it further.

    Parameters
    ----------
    name, image_size, directory
        As for `load`.

    Returns
    -------
    torch.nn.Module
        (b, 3, s, s) float in [0, 1] -> (b, dim): its normalisation is inside, its batch norm is not folded, it is
        in eval mode and every parameter may be trained. Rows are not of unit length.

    Raises
    ------
    EncoderError
        As `image_network`.
    """
    from usl_backend.encoders.images import backbone_module

    return backbone_module(image_network(name, image_size=image_size, directory=directory))


def _module(name: str) -> ModuleType:
    """The file of a family that encodes."""
    family = family_of(name)
    if family.modality is None:
        raise EncoderError(f"encoder {name} looks vectors up and cannot encode; it is for the tasks of a run")
    return importlib.import_module(f"{__name__}.{family.module}")


def _request(name: str, image_size: int | None, directory: Path | None) -> Request:
    """The request for a name, its size checked."""
    if image_size is not None and image_size < SMALLEST_IMAGE:
        raise EncoderError(
            f"image_size is {image_size}; encoder {name} needs at least {SMALLEST_IMAGE} pixels"
        )
    return Request(name, name.partition(":")[2], image_size, directory)

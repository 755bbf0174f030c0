"""Custom weights for an architecture of torchvision or timm, such as the paper's MoCo and CLD backbones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usl_backend.encoders.files import digest_of, find_file
from usl_backend.encoders.images import IMAGENET_MEAN, IMAGENET_STD, ImageNetwork, output_dim, pixel_scale
from usl_backend.encoders.torchvision_models import builder_arguments, remove_classifier
from usl_backend.encoders.vision import import_torchvision
from usl_backend.encoders.weights import load_state, read_state
from usl_backend.errors import EncoderError, nearest_name

if TYPE_CHECKING:
    from torch import nn

    from usl_backend.encoders.base import Request

SIZE: Final = 224


def build(request: Request) -> ImageNetwork:
    """Build `checkpoint:NAME@ARCHITECTURE`; architectures of timm require the extra `timm`.

    Pictures are normalised by ImageNet's mean and standard deviation, as in MoCo, SwAV, DINO and most other recipes.

    Raises
    ------
    EncoderError
        The file is missing or damaged, the architecture is unknown, or the two do not match.
    """
    name, _, architecture = request.argument.partition("@")
    if not architecture:
        raise EncoderError(
            f"encoder {request.name} does not name the architecture of its weights; write "
            f"checkpoint:{name}@resnet50"
        )
    path = find_file(name, directory=request.directory, encoder=request.name)
    size = request.image_size or SIZE
    module = _architecture(architecture, size, request.name).eval()
    load_state(module, read_state(path, encoder=request.name), path=path, encoder=request.name)
    mean, std = pixel_scale(IMAGENET_MEAN, IMAGENET_STD)
    return ImageNetwork(
        module,
        name=f"checkpoint-{architecture}",
        digest=digest_of(path),
        dim=output_dim(module, size, encoder=request.name),
        size=size,
        mean=mean,
        std=std,
    )


def _architecture(name: str, size: int, encoder: str) -> nn.Module:
    """Build a network with random weights and without a classifier."""
    models = import_torchvision().models
    known = models.list_models(module=models)
    if name in known:
        network: nn.Module = models.get_model(name, weights=None, **builder_arguments(name, size))
        remove_classifier(network)
        return network
    from usl_backend.encoders.timm_models import untrained

    try:
        return untrained(name, encoder)
    except EncoderError as error:
        raise EncoderError(
            f'encoder {encoder}: no architecture "{name}"; {nearest_name(name, known)} ({error})'
        ) from error

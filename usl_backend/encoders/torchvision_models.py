"""Classification models of torchvision by name or weights enum, with weights from disk."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Final

from usl_backend.encoders.files import first_existing
from usl_backend.encoders.images import ImageNetwork, output_dim, pixel_scale
from usl_backend.encoders.origins import verified_digest
from usl_backend.encoders.vision import import_torchvision
from usl_backend.errors import EncoderError, nearest_name

if TYPE_CHECKING:
    from torch import nn

    from usl_backend.encoders.base import Request


LICENCE: Final = "bsd-3-clause"
"""Licence of torchvision and of the weights that it trained."""


def build(request: Request) -> ImageNetwork:
    """Build a model without its classifier.

    Differs: torchvision's transform crops the centre; here the whole picture is scaled to the square.

    Parameters
    ----------
    request
        Its argument is a model (`resnet50`, with its default weights) or a member of a weights enum
        (`ResNet50_Weights.IMAGENET1K_V1`).

    Raises
    ------
    EncoderError
        The name is unknown, or the weights are not on this host; the message says which file to put where.
    """
    models = import_torchvision().models
    model, weights = resolve(models, request)
    path = _weights_file(weights, request)
    transform = weights.transforms()
    own = int(transform.crop_size[0])
    module = models.get_model(model, weights=None, **builder_arguments(model, own))
    _load(module, path, request)
    remove_classifier(module)
    size = request.image_size or own
    mean, std = pixel_scale(transform.mean, transform.std)
    return ImageNetwork(
        module,
        name=f"torchvision-{model}",
        digest=verified_digest(path, encoder=request.name),
        dim=output_dim(module.eval(), size, encoder=request.name),
        size=size,
        mean=mean,
        std=std,
    )


def published_url(request: Request) -> tuple[str, str]:
    """Return the address and the licence of the weights that a name stands for.

    Raises
    ------
    EncoderError
        The name is unknown.
    """
    _, weights = resolve(import_torchvision().models, request)
    return weights.url, licence_of(weights)


def licence_of(weights: Any) -> str:
    """Return the licence of weights: torchvision's own, unless they come with another."""
    return str(weights.meta.get("license") or LICENCE)


def remove_classifier(module: nn.Module) -> None:
    """Replace the last linear layer of a classification model by the identity, in place.

    Raises
    ------
    EncoderError
        No classifier was found under torchvision's names for it.
    """
    from torch import nn

    head = next((name for name in ("fc", "classifier", "heads", "head") if hasattr(module, name)), None)
    if head is None:
        raise EncoderError(f"{type(module).__name__} has no known classifier; choose another model")
    layers = [
        name
        for name, part in module.named_modules()
        if name.partition(".")[0] == head and isinstance(part, nn.Linear | nn.Conv2d)
    ]
    if not layers:
        raise EncoderError(f"the classifier of {type(module).__name__} ends in no linear layer")
    parent, _, name = layers[-1].rpartition(".")
    setattr(module.get_submodule(parent), name, nn.Identity())


def resolve(models: Any, request: Request) -> tuple[str, Any]:
    """Return the name of a model and the member of its weights enum that a request stands for.

    Raises
    ------
    EncoderError
        The name is unknown, or there are no weights for it.
    """
    argument = request.argument
    known = models.list_models(module=models)
    if "." in argument:
        name, _, member = argument.partition(".")
        enums = {models.get_model_weights(model).__name__: model for model in known}
        if name not in enums:
            raise EncoderError(f"encoder {request.name}: {nearest_name(name, enums)}")
        members = {weights.name: weights for weights in models.get_model_weights(enums[name])}
        if member not in members:
            raise EncoderError(f"encoder {request.name}: {nearest_name(member, members)}")
        return enums[name], members[member]
    if argument not in known:
        raise EncoderError(f"encoder {request.name}: {nearest_name(argument, known)}")
    weights = models.get_model_weights(argument)
    if not list(weights):
        raise EncoderError(
            f"encoder {request.name}: torchvision has no weights for {argument}; choose another"
        )
    return argument, weights.DEFAULT


def _weights_file(weights: Any, request: Request) -> Path:
    """Find the file of these weights on this host."""
    import torch

    file = weights.url.rpartition("/")[2]
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    path = first_existing(file, (request.directory, hub))
    if path is None:
        places = " or ".join(str(place) for place in (request.directory, hub) if place is not None)
        raise EncoderError(
            f"the weights of encoder {request.name} are not on this host; download them by `usl-backend encoders pull "
            f"{request.name}`, or put {file} (from {weights.url}) into {places}"
        )
    return path


def builder_arguments(model: str, size: int) -> dict[str, Any]:
    """Return the arguments of a model's builder.

    Parameters
    ----------
    model
        Name of the model.
    size
        Side in pixels of the pictures that its weights were trained with.
    """
    if model in {"googlenet", "inception_v3"}:
        return {"init_weights": False}  # slow, and only needed for training from scratch
    return {"image_size": size} if model.startswith("vit_") else {}


def _load(module: nn.Module, path: Path, request: Request) -> None:
    """Load a state dict without running code from the file."""
    import torch

    try:
        module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise EncoderError(
            f"the weights of encoder {request.name} in {path} cannot be loaded ({type(error).__name__}); "
            "put the original file there"
        ) from error

"""Models of the timm library, including DINOv2, with weights from disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from usl_backend.encoders.base import HubPlace
from usl_backend.encoders.files import first_existing, hub_file
from usl_backend.encoders.images import ImageNetwork, output_dim, pixel_scale
from usl_backend.encoders.origins import verified_digest
from usl_backend.encoders.vision import import_beside_torchvision
from usl_backend.encoders.weights import load_state, read_state
from usl_backend.errors import EncoderError, nearest_name

if TYPE_CHECKING:
    from torch import nn

    from usl_backend.encoders.base import Request


def build(request: Request) -> ImageNetwork:
    """Build `timm:MODEL` with the weights that timm publishes for it.

    Looks for `MODEL.safetensors` (the published file, renamed) in the encoder directory, then in the hub's cache.

    Raises
    ------
    EncoderError
        timm is not installed, the model is unknown, or its weights are not on this host; the message says which
        file to put where.
    """
    timm, config = _config(request)
    name = request.argument
    path = _weights(config, request)
    size = request.image_size or int(config.input_size[-1])
    module = _create(timm, name, size if request.image_size else None, request.name).eval()
    load_state(module, read_state(path, encoder=request.name), path=path, encoder=request.name)
    mean, std = pixel_scale(config.mean, config.std)
    return ImageNetwork(
        module,
        name=f"timm-{name}",
        digest=verified_digest(path, encoder=request.name),
        dim=output_dim(module, size, encoder=request.name),
        size=size,
        mean=mean,
        std=std,
    )


def hub_place(request: Request) -> HubPlace:
    """Return where timm publishes the weights of a model.

    Raises
    ------
    EncoderError
        timm is not installed, or the model or its publication is unknown.
    """
    _, config = _config(request)
    if not config.hf_hub_id:
        raise EncoderError(
            f"encoder {request.name} is not on the hub; put {config.url or 'its weights'} as {request.argument}.pth "
            "into the encoder directory"
        )
    return HubPlace(config.hf_hub_id, ("model.safetensors", "pytorch_model.bin"), request.argument)


def untrained(name: str, encoder: str) -> nn.Module:
    """Build a model of timm with random weights and without a classifier; `encoder` is for error messages.

    Raises
    ------
    EncoderError
        timm is not installed or does not know the model.
    """
    timm = import_beside_torchvision("timm", encoder=encoder, extra="timm")
    if not timm.is_model(name.partition(".")[0]):
        raise EncoderError(f"timm: {nearest_name(name, timm.list_models())}")
    return _create(timm, name, None, encoder)


def _create(timm: Any, name: str, size: int | None, encoder: str) -> nn.Module:
    """Build a model without a classifier; only transformers accept the side of the pictures."""
    more = {} if size is None else {"img_size": size}
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **more)
    except TypeError:
        network = timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise EncoderError(f"encoder {encoder} cannot be built ({error}); leave image_size unset") from error
    return network


def _config(request: Request) -> tuple[Any, Any]:
    """Return timm and its configuration of a model's weights."""
    timm = import_beside_torchvision("timm", encoder=request.name, extra="timm")
    if not timm.is_model(request.argument.partition(".")[0]):
        raise EncoderError(f"encoder {request.name}: {nearest_name(request.argument, timm.list_models())}")
    try:
        config = timm.models.get_pretrained_cfg(request.argument)
    except RuntimeError as error:  # the part after the point is unknown
        raise EncoderError(
            f"encoder {request.name}: {nearest_name(request.argument, timm.list_pretrained())}"
        ) from error
    if config is None:
        raise EncoderError(
            f"encoder {request.name}: timm has no weights for it; use checkpoint:FILE@{request.argument} with your own"
        )
    return timm, config


def _weights(config: Any, request: Request) -> Path:
    """Find the file of a model's weights on this host."""
    own = [f"{request.argument}{suffix}" for suffix in (".safetensors", ".pth", ".bin")]
    found = next((path for name in own if (path := first_existing(name, (request.directory,)))), None)
    found = found or (hub_file(config.hf_hub_id, "model.safetensors") if config.hf_hub_id else None)
    if found is None:
        source = f"huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url or "its authors"
        raise EncoderError(
            f"the weights of encoder {request.name} are not on this host; download them by `usl-backend encoders pull "
            f"{request.name}`, or put model.safetensors from {source} as {own[0]} into "
            f"{request.directory or 'the encoder directory (USL_ENCODER_DIR)'}"
        )
    return found

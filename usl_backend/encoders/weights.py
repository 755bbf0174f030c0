"""Load state dicts into networks: strip the prefixes of training code, and name parameters that do not match."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

_NESTED: Final = ("state_dict", "model_state_dict", "model", "teacher", "student", "net", "network", "ema")
"""Keys under which training code stores the weights beside optimiser and epoch."""

_PREFIXES: Final = (
    "module.encoder_q.", "encoder_q.", "module.encoder.", "module.backbone.", "backbone.0.", "backbone.", "encoder.",
    "module.", "model.", "net.", "_orig_mod.", "",
)  # fmt: skip
"""Prefixes of a backbone's parameters in MoCo, CLD, SwAV, mmselfsup, lightly and torch's own wrappers."""

_LISTED: Final = 3
"""Most names to list in a message."""


def read_state(path: Path, *, encoder: str) -> dict[str, Tensor]:
    """Read a state dict without running code from the file.

    Parameters
    ----------
    path
        `.safetensors`, or a file by `torch.save` with a state dict or a dict that holds one.
    encoder
        The encoder's name, for error messages.

    Raises
    ------
    EncoderError
        The file is damaged, or holds more than tensors and plain values.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise EncoderError(f"encoder {encoder} needs safetensors: pip install safetensors") from error
    except Exception as error:  # safetensors and torch raise all kinds of exceptions on damaged bytes
        raise EncoderError(
            f"encoder {encoder}: {path} cannot be read as weights ({type(error).__name__}); save its state dict with "
            "torch.save(model.state_dict(), ...) or as safetensors"
        ) from error
    for key in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    tensors = (
        {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
        if isinstance(found, Mapping)
        else {}
    )
    if not tensors:
        raise EncoderError(f"encoder {encoder}: {path} holds no state dict; save model.state_dict()")
    return tensors


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, path: Path, encoder: str) -> None:
    """Load a state dict, whose names may have a prefix, into a network without a classifier, in place.

    Parameters
    ----------
    state
        From `read_state`; parameters that the network does not have, such as heads and MoCo's key encoder, are
        ignored.
    path, encoder
        For error messages.

    Raises
    ------
    EncoderError
        Parameters are missing or have another shape; the message names the first ones.
    """
    wanted = module.state_dict()
    best = max(_PREFIXES, key=lambda prefix: sum(prefix + name in state for name in wanted))
    missing = sorted(
        name for name in wanted if best + name not in state and not name.endswith("num_batches_tracked")
    )
    if missing:
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise EncoderError(
            f"encoder {encoder}: {path} does not match the architecture: it has no "
            f"{', '.join(missing[:_LISTED])}{more}, but names such as {min(state)!r}; correct the architecture after "
            "the @"
        )
    given = {name: state[best + name] for name in wanted if best + name in state}
    for name in sorted(given):
        if given[name].shape != wanted[name].shape:
            raise EncoderError(
                f"encoder {encoder}: {path} does not match the architecture: {name} is {tuple(given[name].shape)}, not "
                f"{tuple(wanted[name].shape)}; correct the architecture after the @"
            )
    module.load_state_dict({**wanted, **given})

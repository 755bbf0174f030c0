"""State dicts from disk into networks: training code's prefixes are taken off, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

_NESTED: Final = ("state_dict", "model_state_dict", "model", "teacher", "student", "net", "network", "ema")
"""Keys under which training code keeps the weights beside optimiser and epoch."""

_PREFIXES: Final = (
    "module.encoder_q.", "encoder_q.", "module.encoder.", "module.backbone.", "backbone.0.", "backbone.", "encoder.",
    "module.", "model.", "net.", "_orig_mod.", "",
)  # fmt: skip
"""What stands before a backbone's names: of MoCo, CLD, SwAV, mmselfsup, lightly and of torch's own wrappers."""

SHOWN: Final = 3
"""Names that a message lists."""


def read_state(path: Path, *, encoder: str) -> dict[str, Tensor]:
    """Read a state dict without running anything of the file.

    Parameters
    ----------
    path
        `.safetensors`, or what `torch.save` wrote of a state dict or of a dict that holds one.
    encoder
        The encoder's name, for the message.

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
    except Exception as error:  # safetensors and torch fail on damaged bytes in every way there is
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
    """Fill a network without a classifier from a state dict whose names may carry a prefix.

    Parameters
    ----------
    module
        A network whose classifier is gone; changed.
    state
        From `read_state`; what the network does not have, such as heads and the key encoder of MoCo, is ignored.
    path, encoder
        For the message.

    Raises
    ------
    EncoderError
        Parameters are missing or have another shape; the first are named.
    """
    wanted = module.state_dict()
    best = max(_PREFIXES, key=lambda prefix: sum(prefix + name in state for name in wanted))
    missing = sorted(
        name for name in wanted if best + name not in state and not name.endswith("num_batches_tracked")
    )
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise EncoderError(
            f"encoder {encoder}: {path} does not fit the architecture: it has no {', '.join(missing[:SHOWN])}{more}; "
            f"its names are like {min(state)!r}; name the architecture behind the @"
        )
    given = {name: state[best + name] for name in wanted if best + name in state}
    for name in sorted(given):
        if given[name].shape != wanted[name].shape:
            raise EncoderError(
                f"encoder {encoder}: {path} does not fit the architecture: {name} is {tuple(given[name].shape)}, not "
                f"{tuple(wanted[name].shape)}; name the architecture behind the @"
            )
    module.load_state_dict({**wanted, **given})

"""Choose the engine of encoders, torch or OpenVINO, and its precision; the networks themselves are torch's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from usl_backend.errors import EncoderError

logger = logging.getLogger(__name__)

EngineName = Literal["torch", "openvino"]
EngineSetting = Literal["auto", "torch", "openvino"]
Precision = Literal["float32", "bfloat16"]

_BOUNDS: Final = (2026, 2027)
"""Lowest release of OpenVINO, and the first that is too new: the bounds of the extra `fast`."""
_NATIVE: Final = frozenset({"avx512_bf16", "amx_bf16"})
"""Flags of CPUs that compute in bfloat16."""
_CPU_INFO: Final = Path("/proc/cpuinfo")
_REMEDY: Final = 'pip install "usl-backend[fast]", or set engine to torch for a new run'


@dataclass(frozen=True, slots=True)
class Engine:
    """Engine of an encoder and its precision.

    Attributes
    ----------
    name
        "torch", the reference, or "openvino", which computes on CPUs only.
    precision
        Of the forward pass; rows are float32 in any case.
    required
        Fail rather than let torch compute a network that OpenVINO cannot convert.
    """

    name: EngineName = "torch"
    precision: Precision = "float32"
    required: bool = False

    @property
    def suffix(self) -> str:
        """End of an encoder's key: rows of two engines never share a cache. "" for torch in float32."""
        engine = "" if self.name == "torch" else f"-{self.name}"
        return engine + ("" if self.precision == "float32" else "-bf16")

    def __str__(self) -> str:
        return f"{'OpenVINO' if self.name == 'openvino' else 'torch'} in {self.precision}"

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Engine:
        """Read the result of `to_json`."""
        return cls(**values)


REFERENCE: Final = Engine()
"""Torch in float32."""


def engine_in(key: str) -> str:
    """Say which engine made the rows of an encoder's key, or of several joined by "+"; "" for the usual ones."""
    others = [
        Engine(name, precision) for precision in ("bfloat16", "float32") for name in ("openvino", "torch")
    ]
    ends = (one for part in key.split("+") for one in others if one.suffix and part.endswith(one.suffix))
    return str(next(ends, ""))


def choose_engine(setting: EngineSetting = "auto", precision: Precision = "float32") -> Engine:
    """Choose the engine of this host: OpenVINO where it is installed and encoders run on a CPU, else torch.

    Parameters
    ----------
    setting
        The setting `engine`.
    precision
        The setting `precision`.

    Raises
    ------
    EncoderError
        OpenVINO is asked for and cannot be used, or bfloat16 where the processor does not compute in it.
    """
    device = best_device()
    if setting == "openvino":
        import_openvino()
    if precision == "bfloat16":
        _check_bfloat16("cpu" if setting == "openvino" else device)
    name: EngineName = "torch" if setting == "torch" else "openvino"
    if setting == "auto" and (device != "cpu" or not is_usable()):
        name = "torch"
    return Engine(name, precision, required=setting == "openvino")


def best_device() -> str:
    """Return `cuda`, `mps` or `cpu`: the first that is available."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def is_usable() -> bool:
    """Return True if OpenVINO is installed and can be used; warn if it is installed and cannot."""
    if installed_version() is None:
        return False
    try:
        import_openvino()
    except EncoderError as error:
        logger.warning("torch computes the encoders: %s", error)
        return False
    return True


def installed_version() -> str | None:
    """Return the version of the installed OpenVINO; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def import_openvino() -> Any:
    """Import OpenVINO.

    Raises
    ------
    EncoderError
        It is not installed, has another version than the extra `fast` admits, or is broken.
    """
    installed = installed_version()
    if installed is None:
        raise EncoderError(f"the engine is openvino, but OpenVINO is not installed; {_REMEDY}")
    release = installed.partition(".")[0]
    if not release.isdecimal() or not _BOUNDS[0] <= int(release) < _BOUNDS[1]:
        raise EncoderError(
            f"OpenVINO {installed} is installed, but >={_BOUNDS[0]},<{_BOUNDS[1]} is needed; {_REMEDY}"
        )
    try:
        import openvino
    except Exception as error:  # of a damaged installation: a library that is missing, an import that fails
        raise EncoderError(f"OpenVINO {installed} cannot be imported ({error}); {_REMEDY}") from error
    return cast("Any", openvino)


def has_native_bfloat16() -> bool:
    """Return True if this CPU computes in bfloat16 by itself; False where that cannot be told, outside Linux."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not _NATIVE.isdisjoint(flags.split())


def _check_bfloat16(device: str) -> None:
    """Raise EncoderError where bfloat16 would be emulated, and slower than float32."""
    if device == "cuda":
        import torch

        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device == "cpu" and has_native_bfloat16()
    if not native:
        raise EncoderError(
            f"precision is bfloat16, but this host's {device.upper()} does not compute in it (a CPU needs the flag "
            f"{' or '.join(sorted(_NATIVE, reverse=True))}); unset precision"
        )

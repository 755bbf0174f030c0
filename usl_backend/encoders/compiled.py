"""Compile torch networks by OpenVINO for CPUs; `engines` says whether that is wanted."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.cpus import one_torch_thread
from usl_backend.encoders.engines import import_openvino
from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from usl_backend.encoders.engines import Engine

logger = logging.getLogger(__name__)

_PRECISIONS: Final = {"float32": "f32", "bfloat16": "bf16"}


class CompiledNetwork:
    """A network that OpenVINO runs, each call on the calling thread's share of the cores: one.

    Parameters
    ----------
    model
        OpenVINO's model, with its final input shapes.
    engine
        Gives the precision.
    threads
        Calls that may run in parallel.
    """

    def __init__(self, model: Any, *, engine: Engine, threads: int) -> None:
        core = import_openvino().Core()
        # Said for each property, because the defaults differ by CPU: bfloat16 where it is native, float16 on Arm.
        properties = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[engine.precision],
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,
            "ENABLE_HYPER_THREADING": True,
        }
        self._compiled = core.compile_model(model, "CPU", properties)
        self._mine = threading.local()

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return the first output for some inputs; threads may call at the same time.

        Raises
        ------
        EncoderError
            OpenVINO fails, for lack of memory perhaps.
        """
        if not hasattr(self._mine, "request"):
            self._mine.request = self._compiled.create_infer_request()
        try:
            found = self._mine.request.infer(list(inputs), share_inputs=True)[0]
        except RuntimeError as error:
            raise EncoderError(
                f"OpenVINO failed on inputs of {', '.join(str(one.shape) for one in inputs)} ({_reason(error)}); free "
                "memory on this host, or set engine to torch for a new run"
            ) from error
        return np.array(found, dtype=np.float32)


def compile_network(
    module: nn.Module,
    example: Sequence[torch.Tensor],
    shapes: Sequence[Sequence[int]],
    *,
    engine: Engine,
    threads: int,
    encoder: str,
) -> CompiledNetwork | None:
    """Compile a network if the engine is OpenVINO.

    Parameters
    ----------
    module
        In eval mode.
    example
        Inputs to trace it with.
    shapes
        Shape of each input, -1 for a length that changes from call to call.
    engine, threads
        As for `CompiledNetwork`.
    encoder
        Name for messages.

    Returns
    -------
    CompiledNetwork or None
        None if torch is to compute: it is the engine, or OpenVINO cannot convert the network and is not required.

    Raises
    ------
    EncoderError
        OpenVINO cannot be used, or cannot convert the network and is required.
    """
    if engine.name != "openvino":
        return None
    openvino = import_openvino()
    try:
        model = _converted(module, example)
        model.reshape({place: openvino.PartialShape(list(shape)) for place, shape in enumerate(shapes)})
        return CompiledNetwork(model, engine=engine, threads=threads)
    except Exception as error:  # its exceptions and those of tracing have no common base
        reason = _reason(error)
        if engine.required:
            raise EncoderError(
                f"encoder {encoder}: OpenVINO cannot run this network ({reason}); set engine to torch"
            ) from error
        logger.warning("%s: torch computes it, because OpenVINO cannot (%s)", encoder, reason)
        return None


def _reason(error: Exception) -> str:
    """Return what OpenVINO says, without the lines that name its source code."""
    lines = [line for line in str(error).splitlines() if not line.startswith(("Check ", "Exception from "))]
    return " ".join(lines)[:200].strip()


def _converted(module: nn.Module, example: Sequence[torch.Tensor]) -> Any:
    """Convert a network by OpenVINO's parts; `openvino.convert_model` would report each conversion to its makers."""
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad(), one_torch_thread():
        warnings.simplefilter("ignore")  # of tracing, which torch wants to replace
        traced = torch.jit.trace(module, tuple(example), check_trace=False)  # type: ignore[no-untyped-call]
        decoder = TorchScriptPythonDecoder(traced, skip_freeze=True)  # must outlive the conversion
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))

"""Run image networks in ONNX files with onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from usl_backend.cpus import usable_cpus
from usl_backend.encoders.files import digest_of, find_file
from usl_backend.encoders.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MICRO_BATCH,
    PREPROCESSING,
    check_pictures,
    safe_name,
)
from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.encoders.base import Request

_SIZE: Final = 224
_MEAN: Final = np.array(IMAGENET_MEAN, dtype=np.float32) * 255.0
_STD: Final = np.array(IMAGENET_STD, dtype=np.float32) * 255.0
_RANK: Final = 4


class OnnxEncoder:
    """Encoder that runs an ONNX network; rows are of unit length.

    Pictures are normalised by ImageNet's mean and standard deviation.

    Parameters
    ----------
    path
        File; its first input is (b, 3, s, s) float32, its first output (b, d).
    name
        Part of the key.
    encoder
        The encoder's full name, for error messages.
    image_size
        Side of the pictures in pixels; None for the file's own, or 224 if it accepts any.
    threads
        Threads of onnxruntime; by default one per core that this process may use.

    Raises
    ------
    EncoderError
        onnxruntime is not installed, or the file is not such a network.
    """

    modality: Literal["image"] = "image"
    batch = 64

    def __init__(
        self, path: Path, *, name: str, encoder: str, image_size: int | None, threads: int | None = None
    ) -> None:
        self._encoder = encoder
        self._session = _session(path, encoder, threads or usable_cpus())
        given = self._session.get_inputs()[0]
        if len(given.shape) != _RANK or given.type != "tensor(float)":
            raise EncoderError(
                f"encoder {encoder}: its input is {given.type} {given.shape}; export it with input (b, 3, s, s) float32"
            )
        own = given.shape[2] if isinstance(given.shape[2], int) else None
        if image_size and own and image_size != own:
            raise EncoderError(f"encoder {encoder} accepts pictures of {own} px only; leave image_size unset")
        self._input = given.name
        self._fixed = given.shape[0] if isinstance(given.shape[0], int) else None
        self.size = image_size or own or _SIZE
        self.key = f"onnx-{safe_name(name)}-{digest_of(path)[:12]}-{self.size}px-{PREPROCESSING}"
        self.dim = self._forward(np.zeros((1, self.size, self.size, 3), np.uint8)).shape[1]

    def encode(self, batch: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode pictures, as `ImageEncoder.encode`."""
        check_pictures(batch, size=self.size, key=self.key)
        rows = np.empty((len(batch), self.dim), dtype=np.float32)
        step = self._fixed or MICRO_BATCH
        for start in range(0, len(batch), step):
            part = np.asarray(batch[start : start + step])
            rows[start : start + len(part)] = self._forward(part)
        return rows

    def _forward(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run one forward pass, padded so that a row's bits do not depend on the number of pictures."""
        count = self._fixed or MICRO_BATCH
        filled = np.zeros((count, *pictures.shape[1:]), dtype=np.float32)
        filled[: len(pictures)] = (pictures - _MEAN) / _STD
        try:
            found = self._session.run(
                None, {self._input: np.ascontiguousarray(filled.transpose(0, 3, 1, 2))}
            )[0]
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise EncoderError(
                f"encoder {self._encoder} failed on pictures of {self.size} px ({error})"
            ) from error
        if found.ndim != 2:
            raise EncoderError(
                f"encoder {self._encoder} returns {found.shape} for {count} pictures instead of one row each"
            )
        rows = found[: len(pictures)].astype(np.float32)
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def load(request: Request) -> OnnxEncoder:
    """Load `onnx:NAME` from the encoder directory.

    Raises
    ------
    EncoderError
        As `OnnxEncoder`, or there is no such file.
    """
    path = find_file(request.argument, directory=request.directory, encoder=request.name)
    return OnnxEncoder(path, name=path.stem, encoder=request.name, image_size=request.image_size)


def _session(path: Path, encoder: str, threads: int) -> Any:
    """Open an inference session for a file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EncoderError(
            f'encoder {encoder} needs the extra `onnx` ({error}): pip install "usl-backend[onnx]"'
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    providers = [
        one
        for one in ("CUDAExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider")
        if one in onnxruntime.get_available_providers()
    ]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise EncoderError(
            f"encoder {encoder}: {path} cannot be run as an ONNX network ({str(error)[:200]})"
        ) from error

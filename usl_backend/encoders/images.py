"""Run image networks as encoders; each family's module loads its weights."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import numpy as np

from usl_backend.cpus import usable_cpus
from usl_backend.encoders.compiled import CompiledNetwork, compile_network
from usl_backend.encoders.engines import REFERENCE, best_device
from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from usl_backend.encoders.engines import Engine

logger = logging.getLogger(__name__)

MICRO_BATCH: Final = 16
"""Pictures per forward pass on a CPU: below 16, torch uses a slower 1 x 1 convolution on a single thread."""

_COMPILED_BATCH: Final = {"float32": 6, "bfloat16": 16}
"""Precision -> pictures per forward pass of OpenVINO: the quickest for networks whose maps are not taken in parts."""

_IN_PARTS: Final = {"float32": 8, "bfloat16": 16}
"""The same for networks in parts; 16 are a little quicker in float32, too, but each part takes megabytes."""

_DEVICE_BATCH: Final = 512
"""Initial number of pictures per forward pass on a GPU; halved until they fit its memory."""

_CUDA_PASSES: Final = 2
"""Parallel forward passes on CUDA: while one is computed, the pictures of the next are copied to the GPU."""

PREPROCESSING: Final = "v2"
"""Part of every key; increase it when a change of decoding or scaling changes the network's input."""

QUICK_PREPROCESSING: Final = "q1"
"""The same, for pictures that are decoded quickly."""

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet for pictures in [0, 1]; most recipes normalise by them."""

Channels = tuple[float, float, float]
T = TypeVar("T")


@dataclass(frozen=True)
class ImageNetwork:
    """A network with the preprocessing its weights were trained with.

    Attributes
    ----------
    module
        (b, 3, size, size) float32, normalised -> (b, dim) float32; batch norm not folded, in eval mode.
    name, digest
        Short name, and the SHA-256 of the weights in hexadecimal.
    dim
        Number of columns of a row.
    size
        Side of the pictures in pixels.
    mean, std
        Mean and standard deviation of red, green and blue in 0..255, to normalise pictures by.
    """

    module: nn.Module
    name: str
    digest: str
    dim: int
    size: int
    mean: Channels
    std: Channels

    @property
    def key(self) -> str:
        """Name of weights, size and preprocessing; valid as a folder name."""
        return f"{safe_name(self.name)}-{self.digest[:12]}-{self.size}px-{PREPROCESSING}"


def safe_name(name: str) -> str:
    """Replace characters that are not safe in file names, and cut to 80 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]


def pixel_scale(mean: Sequence[float], std: Sequence[float]) -> tuple[Channels, Channels]:
    """Convert mean and standard deviation of pictures in [0, 1], as most libraries give them, to 0..255."""
    red, green, blue = (255.0 * float(value) for value in mean)
    first, second, third = (255.0 * float(value) for value in std)
    return (red, green, blue), (first, second, third)


def backbone_module(network: ImageNetwork) -> nn.Module:
    """Wrap a network to normalise its inputs, for fine-tuning.

    Returns
    -------
    torch.nn.Module
        (b, 3, size, size) float in [0, 1] -> (b, dim), not of unit length. Batch norm is not folded, and every
        parameter requires gradients.
    """
    import torch
    from torch import Tensor, nn

    class Backbone(nn.Module):
        mean: Tensor
        std: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = network.module
            for name, values in (("mean", network.mean), ("std", network.std)):
                scaled = torch.tensor(values, dtype=torch.float64).div_(255.0).float()
                self.register_buffer(name, scaled.reshape(1, 3, 1, 1), persistent=False)

        def forward(self, pictures: Tensor) -> Tensor:
            features: Tensor = self.network((pictures - self.mean) / self.std)
            return features

    return Backbone().requires_grad_(True)


def check_pictures(batch: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], *, size: int, key: str) -> None:
    """Raise EncoderError unless every picture is (size, size, 3) uint8; `key` is for the message."""
    expected = (size, size, 3)
    for picture in batch:
        if picture.shape != expected or picture.dtype != np.uint8:
            raise EncoderError(
                f"{key} takes uint8 pictures of shape {expected}, not {picture.dtype} of {picture.shape}; "
                "decode them at the encoder's size"
            )


def output_dim(module: nn.Module, size: int, *, encoder: str) -> int:
    """Return the number of columns of a network's output, measured by a forward pass.

    Parameters
    ----------
    module
        In eval mode.
    size
        Side of the pictures in pixels.
    encoder
        Name for error messages.

    Raises
    ------
    EncoderError
        The network does not accept pictures of that size, or does not return one row per picture.
    """
    import torch

    try:
        with torch.inference_mode():
            shape = tuple(module(torch.zeros(1, 3, size, size)).shape)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise EncoderError(
            f"encoder {encoder} does not accept pictures of {size} px ({error}); leave image_size unset"
        ) from error
    if len(shape) != 2:
        raise EncoderError(
            f"encoder {encoder} returns {shape} for a picture instead of one row; choose another"
        )
    return int(shape[1])


class ImageEncoder:
    """Encoder that runs an image network by torch or OpenVINO; rows are float32 and of unit length.

    On a CPU each forward pass uses one thread and a fixed number of pictures (the last pass is padded), and several
    passes run in parallel: therefore the bits of a row depend neither on the other pictures nor on the number of
    cores. On a GPU a pass takes as many pictures as fit its memory and computes in float32 without TF32: rows equal
    those of a CPU up to rounding, so that a cache may hold both.

    Parameters
    ----------
    network
        Changed for speed; must not be trained afterwards.
    folded
        The same network with folded batch norm, if the family folds it itself.
    threads
        Parallel forward passes on a CPU; by default one per core that this process may use.
    device
        torch device; by default CUDA or MPS if available, else the CPU.
    engine
        Engine and precision; OpenVINO computes on the CPU.
    """

    modality: Literal["image"] = "image"

    def __init__(
        self,
        network: ImageNetwork,
        *,
        folded: nn.Module | None = None,
        threads: int | None = None,
        device: str | None = None,
        engine: Engine = REFERENCE,
    ) -> None:
        import torch

        self.dim, self.size = network.dim, network.size
        self._device = torch.device("cpu" if engine.name == "openvino" else device or best_device())
        on_cpu = self._device.type == "cpu"
        module = folded if folded is not None else fold_batch_norm(network.module)
        module = module.eval().requires_grad_(False).to(device=self._device)
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(network.mean, device=self._device).reshape(shape)
        self._std = torch.tensor(network.std, device=self._device).reshape(shape)
        self._per_pass = MICRO_BATCH if on_cpu else _DEVICE_BATCH
        parallel = {"cpu": threads or usable_cpus(), "cuda": _CUDA_PASSES}
        self._compiled = self._compile(module, engine, parallel["cpu"], network.name)
        if self._compiled is None:
            engine = replace(engine, name="torch")
            self._dtype = torch.bfloat16 if engine.precision == "bfloat16" else torch.float32
            self._module = module.to(self._dtype)
        self.engine, self.quick = engine, engine.name == "openvino"
        pixels = QUICK_PREPROCESSING if self.quick else PREPROCESSING
        self.key = f"{network.key.removesuffix(PREPROCESSING)}{pixels}{engine.suffix}"
        # Kept for the encoder's life, because the network library fills caches for every new thread.
        self._pool = ThreadPoolExecutor(parallel.get(self._device.type, 1), thread_name_prefix="encode")

    def _compile(
        self, module: nn.Module, engine: Engine, threads: int, encoder: str
    ) -> CompiledNetwork | None:
        """Compile a network with its normalization and its number of pictures; None if torch computes it."""
        import torch

        from usl_backend.encoders.in_parts import InParts

        if engine.name == "torch":
            return None
        normalized = partial(_from_pixels, mean=self._mean, std=self._std)
        whole, count = normalized(module), _COMPILED_BATCH[engine.precision]
        if isinstance(module, InParts):
            count = _IN_PARTS[engine.precision]
            whole = module.copied(count, normalized)
        shape = (count, self.size, self.size, 3)
        example = [torch.zeros(shape, dtype=torch.uint8)]
        found = compile_network(whole, example, [shape], engine=engine, threads=threads, encoder=encoder)
        if found is not None:
            self._per_pass = count
        return found

    @property
    def batch(self) -> int:
        """Number of pictures per call of `encode` that uses the device, or two cores, fully."""
        if self._device.type == "cpu":
            return -(-2 * MICRO_BATCH // self._per_pass) * self._per_pass  # so that no pass is padded
        return max(64, _CUDA_PASSES * self._per_pass)

    def encode(self, batch: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode pictures.

        Parameters
        ----------
        batch : b arrays, or an array, of (size, size, 3) uint8
            Red, green, blue.

        Returns
        -------
        (b, dim) float32
            Unit-length rows.

        Raises
        ------
        EncoderError
            A picture has another shape or dtype, or not even one fits into memory.
        """
        import torch

        check_pictures(batch, size=self.size, key=self.key)
        before = torch.get_num_threads()
        try:
            with without_tf32(self._device):
                return halve_until_it_fits(
                    self._per_pass, self._reduce_batch, lambda size: self._rows(batch, size)
                )
        finally:
            torch.set_num_threads(before)

    def _reduce_batch(self, per_pass: int) -> None:
        """Use a smaller batch from now on."""
        logger.warning("%s: out of memory, continuing with %s pictures at a time", self.key, per_pass)
        self._per_pass = per_pass

    def _rows(
        self, batch: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], per_pass: int
    ) -> NDArray[np.float32]:
        """Encode with `per_pass` pictures per forward pass."""
        import torch

        rows = np.empty((len(batch), self.dim), dtype=np.float32)
        filled = self._device.type == "cpu"

        def forward(start: int) -> None:
            if filled and self._compiled is None:
                torch.set_num_threads(1)
            part = batch[start : start + per_pass]
            pixels = np.empty((per_pass if filled else len(part), self.size, self.size, 3), dtype=np.uint8)
            np.stack(list(part), out=pixels[: len(part)])
            pixels[len(part) :] = 127
            run = self._forward if self._compiled is None else self._run_compiled
            rows[start : start + len(part)] = run(pixels)[: len(part)]

        list(self._pool.map(forward, range(0, len(batch), per_pass)))
        return rows

    def _run_compiled(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run one forward pass by OpenVINO."""
        assert self._compiled is not None
        return unit_rows(self._compiled(pixels))

    def _forward(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run one forward pass by torch."""
        import torch

        with torch.inference_mode():
            # Pictures are stored as height, width, channels: the layout of channels_last.
            on_device = torch.from_numpy(pixels).to(self._device)
            inputs = on_device.permute(0, 3, 1, 2).float().sub_(self._mean).div_(self._std)
            features = self._module(inputs.to(self._dtype)).float()
            norms = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min_(1e-12)
            return np.asarray(features.div(norms).cpu().numpy())


def _from_pixels(module: nn.Module, mean: torch.Tensor, std: torch.Tensor) -> nn.Module:
    """Wrap a network to take (b, size, size, 3) uint8; pixels stay in their order, which is OpenVINO's own, too."""
    from torch import Tensor, nn

    class FromPixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, pixels: Tensor) -> Tensor:
            # A row of pixels at a time: loops over three channels take three times as long.
            rows = pixels.flatten(2)
            across = pixels.shape[2]
            scaled = (rows.float() - mean.flatten().repeat(across)) / std.flatten().repeat(across)
            features: Tensor = self.network(scaled.reshape(pixels.shape).permute(0, 3, 1, 2))
            return features

    return FromPixels().eval()


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring rows to unit length, in place."""
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows


@contextmanager
def without_tf32(device: torch.device) -> Iterator[None]:
    """Keep cuDNN on `device` from rounding inputs of convolutions to TF32's 10 bits, which would change picks.

    Does nothing on a CPU.
    """
    import torch

    if device.type != "cuda":
        yield
        return
    library = torch.backends.cudnn
    with library.flags(
        enabled=library.enabled,
        benchmark=library.benchmark,
        deterministic=library.deterministic,
        allow_tf32=False,
    ):
        yield


def halve_until_it_fits(size: int, reduce: Callable[[int], None], work: Callable[[int], T]) -> T:
    """Call `work(size)`; halve the size and repeat each time memory runs out.

    Parameters
    ----------
    size
        Initial number of instances per forward pass.
    reduce
        Called with each smaller size before it is tried.
    work
        Called with a size.

    Raises
    ------
    EncoderError
        A single instance does not fit into memory.
    """
    import torch

    while True:
        try:
            return work(size)
        except (torch.OutOfMemoryError, MemoryError) as error:
            failed: BaseException = error
        except RuntimeError as error:
            if "alloc" not in str(error):  # the CPU's allocator raises a plain RuntimeError
                raise
            failed = error
        if size == 1:
            raise EncoderError(
                f"not enough memory for a single forward pass ({failed}); choose a smaller image_size or encoder"
            ) from failed
        size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        reduce(size)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold batch norms into the convolutions before them if torch.fx can trace the network.

    Parameters
    ----------
    module
        In eval mode; not changed.

    Returns
    -------
    torch.nn.Module
        The folded copy, or `module` itself if it has no batch norm or cannot be traced.
    """
    from torch import nn
    from torch.fx.proxy import TraceError

    with warnings.catch_warnings():
        # The imported module uses a deprecated part of torch.jit.
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch.fx.experimental.optimization import fuse

    if not any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        return module
    try:
        folded: nn.Module = fuse(module)
    except (TraceError, TypeError, ValueError, NotImplementedError, RuntimeError, AttributeError) as error:
        logger.info("batch norm is not folded: %s", error)
        return module
    return folded

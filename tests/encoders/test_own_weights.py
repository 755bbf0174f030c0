"""Encoders of the extras and of a team's own files, on random weights."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from usl_backend import encoders
from usl_backend.encoders.vision import import_torchvision
from usl_backend.errors import EncoderError

models = import_torchvision().models
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def normalized(batch: np.ndarray, mean: object = MEAN, std: object = STD) -> torch.Tensor:
    scaled = (batch.astype(np.float64) / 255.0 - np.asarray(mean)) / np.asarray(std)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def resnet() -> torch.nn.Module:
    torch.manual_seed(3)
    return models.resnet18(weights=None).eval()


@pytest.fixture(scope="module")
def wanted(resnet: torch.nn.Module) -> np.ndarray:
    """Features of the backbone in float64."""
    headless = torch.nn.Sequential(*list(resnet.children())[:-1], torch.nn.Flatten()).double()
    with torch.inference_mode():
        rows = unit(headless(normalized(pictures(2, 64))).numpy())
    resnet.float()
    return rows


def backbone_names(resnet: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in resnet.state_dict().items() if not name.startswith("fc.")}


@pytest.mark.parametrize("prefix", ["", "module.encoder_q.", "module.", "backbone.", "encoder."])
@pytest.mark.parametrize("nested", [None, "state_dict"])
def test_checkpoint__prefixes_of_training_code(
    tmp_path: Path, resnet: torch.nn.Module, wanted: np.ndarray, prefix: str, nested: str | None
) -> None:
    state = backbone_names(resnet, prefix)
    # As in MoCo: another encoder and a head that has nothing to do with ours.
    state["module.encoder_k.conv1.weight"] = torch.zeros(1)
    state[f"{prefix}fc.0.weight"] = torch.zeros(128, 512)
    torch.save({"epoch": 800, nested: state} if nested else state, tmp_path / "moco.pt")
    encoder = encoders.load("checkpoint:moco.pt@resnet18", image_size=64, directory=tmp_path)
    np.testing.assert_allclose(encoder.encode(pictures(2, 64)), wanted, atol=5e-6)


def test_checkpoint__safetensors_and_backbone(
    tmp_path: Path, resnet: torch.nn.Module, wanted: np.ndarray
) -> None:
    from safetensors.torch import save_file

    save_file(backbone_names(resnet, ""), tmp_path / "cld.safetensors")
    name = "checkpoint:cld.safetensors@resnet18"
    encoder = encoders.load(name, image_size=64, directory=tmp_path)
    np.testing.assert_allclose(encoder.encode(pictures(2, 64)), wanted, atol=5e-6)
    assert encoder.key.startswith("checkpoint-resnet18-")
    trained = encoders.backbone(name, image_size=64, directory=tmp_path)
    assert trained(torch.zeros(1, 3, 64, 64)).shape == (1, 512)


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (
            "resnet18",
            "w.pt@resnet50",
            r"does not match the architecture: .*layer1.0.* correct the architecture",
        ),
        ("resnet18", "w.pt@shufflenet_v2_x0_5", r"it has no .* and \d+ more"),
        ("resnet18", "w.pt", "does not name the architecture"),
        ("resnet18", "w.pt@resnet81", 'no architecture "resnet81"; did you mean "resnet18"'),
        ("noise", "w.pt@resnet18", "cannot be read as weights"),
        ("noise", "w.safetensors@resnet18", "cannot be read as weights"),
        ("plain", "w.pt@resnet18", "holds no state dict"),
        ("code", "w.pt@resnet18", "cannot be read as weights"),
        ("resnet18", "other.pt@resnet18", 'needs the file "other.pt" in'),
    ],
)
def test_checkpoint__what_cannot_be_used_is_named(
    tmp_path: Path, resnet: torch.nn.Module, content: str, name: str, said: str
) -> None:
    path = tmp_path / name.partition("@")[0].replace("other", "w")
    if content == "noise":
        path.write_bytes(b"no weights at all")
    else:
        held = {"resnet18": resnet.state_dict(), "plain": {"epoch": 3}, "code": resnet}[content]
        torch.save(held, path)
    with pytest.raises(EncoderError, match=said):
        encoders.load(f"checkpoint:{name}", image_size=64, directory=tmp_path)


def test_timm__equals_the_library_s_own_features(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(4)
    network = timm.create_model("test_vit.r160_in1k", pretrained=False).eval()
    save_file(network.state_dict(), tmp_path / "test_vit.r160_in1k.safetensors")
    encoder = encoders.load("timm:test_vit.r160_in1k", directory=tmp_path)
    config = timm.models.get_pretrained_cfg("test_vit.r160_in1k")
    assert encoder.size == config.input_size[-1] == 160
    batch = pictures(2, 160)
    network.reset_classifier(0)
    with torch.inference_mode():
        rows = network.double()(normalized(batch, config.mean, config.std)).numpy()
    np.testing.assert_allclose(encoder.encode(batch), unit(rows), atol=5e-6)


def test_timm__dinov2_takes_its_weights_from_the_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm
    from safetensors.torch import save_file

    name = "test_resnet.r160_in1k"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / f"models--timm--{name}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    save_file(timm.create_model(name, pretrained=False).state_dict(), snapshot / "model.safetensors")
    assert encoders.load(f"timm:{name}", directory=tmp_path / "none").size == 160
    with pytest.raises(
        EncoderError, match=r"put model.safetensors from .*dinov2.* as vit_small_patch14_dinov2"
    ):
        encoders.load("timm:vit_small_patch14_dinov2.lvd142m", directory=tmp_path)
    with pytest.raises(EncoderError, match='did you mean "vit_small_patch14_dinov2'):
        encoders.load("timm:vit_small_patch14_dinov", directory=tmp_path)


def test_checkpoint__of_an_architecture_of_timm(tmp_path: Path) -> None:
    import timm

    network = timm.create_model("test_resnet", pretrained=False)
    torch.save({f"backbone.{name}": value for name, value in network.state_dict().items()}, tmp_path / "w.pt")
    assert encoders.load("checkpoint:w.pt@test_resnet", image_size=64, directory=tmp_path).size == 64


TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}


def test_open_clip__equals_the_library_s_own_image_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip
    from open_clip import factory

    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny", TINY_CLIP)
    torch.manual_seed(5)
    model = open_clip.create_model("tiny", pretrained=None).eval()
    torch.save(model.state_dict(), tmp_path / "tiny-own.pt")
    encoder = encoders.load("open_clip:tiny/own", directory=tmp_path)
    batch = pictures(2, 32)
    with torch.inference_mode():
        inputs = normalized(batch, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD).float()
        rows = model.encode_image(inputs).double().numpy()
    assert (encoder.dim, encoder.size) == (32, 32)
    np.testing.assert_allclose(encoder.encode(batch), unit(rows), atol=5e-6)
    with pytest.raises(EncoderError, match=r"put open_clip's file as ViT-B-32-openai.safetensors into"):
        encoders.load("open_clip:ViT-B-32/openai", directory=tmp_path)
    with pytest.raises(EncoderError, match='did you mean "ViT-B-32'):
        encoders.load("open_clip:ViT-B-33", directory=tmp_path)


@pytest.mark.parametrize(
    ("model", "tag", "activation"),
    [
        ("tiny", "openai", "quick"),
        ("tiny", "laion2b_s34b_b79k", "plain"),
        ("tiny", "own", "plain"),
        ("tiny-quickgelu", "openai", "quick"),
        ("tiny-quickgelu", "own", "quick"),
    ],
)
def test_open_clip__activation_is_the_one_that_the_tag_was_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, tag: str, activation: str
) -> None:
    import open_clip
    from open_clip import factory, pretrained

    names = {"plain": "tiny", "quick": "tiny-quickgelu"}
    tags = {one: pretrained._PRETRAINED["ViT-B-32"][one] for one in ("openai", "laion2b_s34b_b79k")}
    for name in names.values():
        config = TINY_CLIP | ({"quick_gelu": True} if name != "tiny" else {})
        monkeypatch.setitem(factory._MODEL_CONFIGS, name, config)
        monkeypatch.setitem(pretrained._PRETRAINED, name, tags)
    torch.manual_seed(6)
    wanted = open_clip.create_model(names[activation], pretrained=None).eval()
    torch.save(wanted.state_dict(), tmp_path / f"{model}-{tag}.pt")
    encoder = encoders.load(f"open_clip:{model}/{tag}", directory=tmp_path)
    batch = pictures(2, 32)
    with torch.inference_mode():
        inputs = normalized(batch, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD).float()
        rows = unit(wanted.encode_image(inputs).double().numpy())
    np.testing.assert_allclose(encoder.encode(batch), rows, atol=5e-6)
    # Rows that were cached with the other activation are not used again.
    assert ("-quickgelu" in encoder.key) == (activation == "quick")


def test_open_clip__pairs_with_another_activation_are_those_of_the_library() -> None:
    import_torchvision()
    import open_clip

    from usl_backend.encoders.open_clip_models import _lacks_quick_gelu

    listed = open_clip.list_pretrained()
    found = {pair for pair in listed if _lacks_quick_gelu(open_clip, *pair)}
    assert found == {(model, tag) for model, tag in listed if (f"{model}-quickgelu", tag) in listed}
    assert {("ViT-B-32", "openai"), ("RN50", "cc12m"), ("ViT-H-14-378", "dfn5b")} < found
    assert len(found) >= 26


def onnx_file(path: Path, batch: object, side: object, *, output_rank: int = 2) -> None:
    """A network that takes the mean of each channel."""
    nodes = [helper.make_node("GlobalAveragePool", ["pictures"], ["pooled"])]
    nodes.append(helper.make_node("Flatten" if output_rank == 2 else "Identity", ["pooled"], ["rows"]))
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


@pytest.mark.parametrize(("batch", "side", "size"), [("b", "s", 224), (1, 32, 32), (8, 48, 48)])
def test_onnx__rows_are_the_network_s(tmp_path: Path, batch: object, side: object, size: int) -> None:
    onnx_file(tmp_path / "means.onnx", batch, side)
    encoder = encoders.load("onnx:means.onnx", directory=tmp_path)
    shown = pictures(19, size)
    assert (encoder.size, encoder.dim) == (size, 3)
    rows = encoder.encode(shown)
    np.testing.assert_allclose(rows, unit(normalized(shown).mean(dim=(2, 3)).numpy()), atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(shown[3:4]), rows[3:4])


def test_onnx__what_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"no network")
    with pytest.raises(EncoderError, match="cannot be run as an ONNX network"):
        encoders.load("onnx:noise.onnx", directory=tmp_path)
    onnx_file(tmp_path / "flat.onnx", "b", 32, output_rank=4)
    with pytest.raises(EncoderError, match="instead of one row each"):
        encoders.load("onnx:flat.onnx", directory=tmp_path)
    onnx_file(tmp_path / "fixed.onnx", "b", 32)
    with pytest.raises(EncoderError, match="accepts pictures of 32 px only"):
        encoders.load("onnx:fixed.onnx", image_size=64, directory=tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EncoderError, match=r'pip install "usl-backend\[onnx\]"'):
        encoders.load("onnx:fixed.onnx", directory=tmp_path)


@pytest.mark.parametrize(
    ("library", "name", "extra"),
    [("timm", "timm:resnet18", "timm"), ("open_clip", "open_clip:ViT-B-32", "open-clip")],
)
def test_load__missing_extra_says_what_to_install(
    library: str, name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(EncoderError, match=rf'pip install "usl-backend\[{extra}\]"'):
        encoders.load(name)


def test_load__vectors_are_looked_up_and_not_encoded() -> None:
    with pytest.raises(EncoderError, match="looks vectors up and cannot encode"):
        encoders.load("precomputed:rows.npz")

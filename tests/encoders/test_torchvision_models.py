import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from usl_backend import encoders
from usl_backend.encoders.torchvision_models import builder_arguments, remove_classifier
from usl_backend.encoders.vision import import_torchvision
from usl_backend.errors import EncoderError

models = import_torchvision().models
# One of each kind of network and of each kind of head, small where there is a choice.
KINDS = {
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "maxvit_t": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v3_small": 1024,
    "resnet18": 512,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "vgg11": 4096,
    "vit_b_16": 768,
}


def weights_file(directory: Path, name: str) -> Path:
    """Random weights under the name that torchvision publishes them under."""
    torch.manual_seed(5)
    weights = models.get_model_weights(name).DEFAULT
    module = models.get_model(
        name, weights=None, **builder_arguments(name, int(weights.transforms().crop_size[0]))
    )
    for part in module.modules():
        if isinstance(
            part, torch.nn.BatchNorm2d
        ):  # a fresh one does nothing, and folding it could not go wrong
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    path = directory / weights.url.rpartition("/")[2]
    torch.save(module.state_dict(), path)
    return path


def pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", KINDS)
def test_remove_classifier__features_come_out(name: str) -> None:
    weights = models.get_model_weights(name).DEFAULT
    size = weights.transforms().crop_size[0]
    with torch.device("meta"):
        module = models.get_model(
            name, weights=None, **builder_arguments(name, int(weights.transforms().crop_size[0]))
        ).eval()
        remove_classifier(module)
        assert module(torch.empty(2, 3, size, size)).shape == (2, KINDS[name])


def test_remove_classifier__unknown_head_is_named() -> None:
    with pytest.raises(EncoderError, match="Sequential has no known classifier"):
        remove_classifier(torch.nn.Sequential(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize("argument", ["resnet18", "ResNet18_Weights.IMAGENET1K_V1"])
def test_load__equals_the_library_s_own_features(tmp_path: Path, argument: str) -> None:
    path = weights_file(tmp_path, "resnet18")
    encoder = encoders.load(f"torchvision:{argument}", image_size=64, directory=tmp_path)
    batch = pictures(3, 64)

    module = models.resnet18(weights=None)
    module.load_state_dict(torch.load(path, weights_only=True))
    module.fc = torch.nn.Identity()
    mean, std = torch.tensor([0.485, 0.456, 0.406]).double(), torch.tensor([0.229, 0.224, 0.225]).double()
    scaled = ((torch.from_numpy(batch).double() / 255.0 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        wanted = module.double().eval()(scaled).numpy()
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)

    assert (encoder.dim, encoder.size, encoder.modality) == (512, 64, "image")
    np.testing.assert_allclose(encoder.encode(batch), wanted, atol=5e-6)
    trained = encoders.backbone(f"torchvision:{argument}", image_size=64, directory=tmp_path)
    features = trained(torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255.0)
    rows = torch.nn.functional.normalize(features).detach().numpy()
    np.testing.assert_allclose(rows, wanted, atol=5e-6)
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in trained.modules())
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in trained.parameters())


def test_load__own_size_and_a_key_of_weights_and_size(tmp_path: Path) -> None:
    path = weights_file(tmp_path, "shufflenet_v2_x0_5")
    name = "torchvision:shufflenet_v2_x0_5"
    own = encoders.load(name, directory=tmp_path)
    smaller = encoders.load(name, directory=tmp_path, image_size=64)
    state = torch.load(path, weights_only=True)
    state["conv5.0.weight"] += 1.0
    torch.save(state, path)
    other = encoders.load(name, directory=tmp_path)
    assert (own.size, smaller.size) == (224, 64)
    assert len({own.key, smaller.key, other.key}) == 3
    assert all(key.startswith("torchvision-shufflenet_v2_x0_5-") for key in (own.key, other.key))


def test_load__finds_weights_in_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    weights_file(tmp_path / "hub/checkpoints", "squeezenet1_1")
    assert encoders.load("torchvision:squeezenet1_1", image_size=64).dim == 512


def test_load__missing_weights_say_which_file_goes_where(tmp_path: Path) -> None:
    with pytest.raises(
        EncoderError, match=r"put resnet50-[0-9a-f]+\.pth \(from https://.*\) into .*encoders or "
    ):
        encoders.load("torchvision:resnet50", directory=tmp_path / "encoders")


def test_load__weights_of_another_model_are_refused(tmp_path: Path) -> None:
    name = models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    torch.save({"a": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(EncoderError, match="cannot be loaded"):
        encoders.load("torchvision:resnet18", directory=tmp_path)


def test_load__picture_size_that_a_model_does_not_take(tmp_path: Path) -> None:
    weights_file(tmp_path, "inception_v3")
    with pytest.raises(EncoderError, match=r"does not accept pictures of 64 px.*leave image_size unset"):
        encoders.load("torchvision:inception_v3", image_size=64, directory=tmp_path)


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [
        ("resnet5O", 'did you mean "resnet50"'),
        ("ResNet50_Weight.DEFAULT", 'did you mean "ResNet50_Weights"'),
        ("ResNet50_Weights.IMAGENET1K_V9", 'did you mean "IMAGENET1K_V'),
    ],
)
def test_load__unknown_model_suggests_the_nearest(argument: str, remedy: str) -> None:
    with pytest.raises(EncoderError, match=remedy):
        encoders.load(f"torchvision:{argument}")


def test_import_torchvision__works_in_a_fresh_process_and_twice() -> None:
    program = (
        "from usl_backend.encoders.vision import import_torchvision; "
        "print(import_torchvision() is import_torchvision())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == "True\n", done.stderr


def test_import_torchvision__missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(EncoderError, match="install matching versions"):
        import_torchvision()

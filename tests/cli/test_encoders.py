"""`usl-backend encoders` and `encoders pull`, against a hub on this machine."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from local_hub import LocalHub, running_hub
from safetensors.torch import save

from usl_backend.cli import main
from usl_backend.encoders.vision import import_torchvision

TIMM = "test_resnet.r160_in1k"
Told = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    import_torchvision()
    import timm

    torch.manual_seed(9)
    weights = save(timm.create_model(TIMM, pretrained=False).state_dict())
    with running_hub() as found:
        found.repositories[f"timm/{TIMM}"] = {"model.safetensors": weights}
        found.cards[f"timm/{TIMM}"] = {"license": "apache-2.0"}
        yield found


@pytest.fixture
def told(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Told:
    for name in ("HF_TOKEN", "USL_ENCODER_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "data"))
    # Another test of this process may have loaded a sentence encoder, which forbids it.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def tell(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(("encoders", *arguments))
        written = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, written.out, written.err

    return tell


def test_pull__shows_size_and_licence_and_asks_first(told: Told, hub: LocalHub, tmp_path: Path) -> None:
    code, out, err = told("pull", f"timm:{TIMM}")
    assert (code, "add --yes to agree beforehand" in err) == (2, True)
    for line in (
        f"from     {hub.url}/timm/{TIMM}, revision aaaaaaaaaaaa",
        "in 1 file",
        "licence  apache-2.0",
    ):
        assert line in out
    assert not any("resolve" in request for request in hub.requests), "nothing is downloaded without consent"

    code, out, err = told("pull", f"timm:{TIMM}", "--json")
    assert (code, out, "--json asks nothing; add --yes" in err) == (2, "", True)

    code, out, err = told("pull", f"timm:{TIMM}", "--yes", "--json")
    assert code == 0, err
    pulled = json.loads(out)
    path = tmp_path / "data" / "encoders" / f"{TIMM}.safetensors"
    assert (pulled["path"], pulled["already_here"]) == (str(path), False)
    assert path.is_file()
    assert (pulled["licence"], len(pulled["sha256"])) == ("apache-2.0", 64)

    code, out, _ = told("pull", f"timm:{TIMM}")
    assert (code, f"already there: {path} (" in out) == (0, True)

    code, out, _ = told("--json")
    (entry,) = [one for one in json.loads(out)["here"] if one["encoder"] == f"timm:{TIMM}"]
    assert (entry["dim"], entry["bytes"]) == (pulled["dim"], path.stat().st_size)
    code, out, _ = told()
    assert (code, "encoder directory" in out, "torchvision:MODEL" in out) == (0, True, True)
    code, out, _ = told("--known", "timm:test_vit.r160*")
    assert "test_vit.r160_in1k" in out
    assert "apache-2.0" in out


def test_pull__error_is_one_line(told: Told) -> None:
    code, _, err = told("pull", "timm:resnet18.a1_in1k", "--yes")
    assert (code, err.count("\n")) == (1, 1)
    assert "there is no http" in err


@pytest.mark.parametrize(("answer", "downloaded"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_pull__person_is_asked(
    told: Told, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, downloaded: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    code, out, _ = told("pull", f"timm:{TIMM}")
    assert "Download it? [y/N]" in out
    assert (code == 0) == downloaded
    assert (tmp_path / "data" / "encoders" / f"{TIMM}.safetensors").is_file() == downloaded

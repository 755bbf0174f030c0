"""Runs over texts that lie in files: PDFs and pages of a real HTTP server, which is busy at times."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from file_host import Host
from moving_pictures import GREY, RED, pdf

from usl_backend import encoders
from usl_backend.embedding import cluster as cluster_module
from usl_backend.embedding.cache import EmbeddingCache
from usl_backend.embedding.cluster import Elsewhere, WorkerPlan, embed_on_cluster
from usl_backend.embedding.stage import embed
from usl_backend.encoders import Encoder
from usl_backend.instances import Instance, Pool, TextFile
from usl_backend.sources.media import Media, MediaAccess

WORDS = ["Interest rates rise", "The cat sleeps", "A new telescope"]
PDF, PAGE = TextFile("doc"), TextFile("doc", "HyperText")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return encoders.load("minilm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("texts")
    for number, words in enumerate(WORDS):
        (found / f"{number}.pdf").write_bytes(pdf([(RED, words)]))
        (found / f"{number}.html").write_bytes(f"<p>{words}</p><script>x</script>".encode())
    (found / "scan.pdf").write_bytes(pdf([(GREY, "")]))
    return found


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    with Host.running(folder) as server:
        yield server


@pytest.fixture
def access(host: Host) -> MediaAccess:
    return MediaAccess(allowed_hosts=(host.name,))


def located(host: Host, names: Sequence[str], file: TextFile) -> list[Instance]:
    return [
        Instance(number, "text", f"http://{host.name}/{name}", files=(file,))
        for number, name in enumerate(names)
    ]


def run(
    instances: Sequence[Instance], access: MediaAccess, encoder: Encoder, tmp_path: Path
) -> tuple[Pool, list[str]]:
    cache = EmbeddingCache(tmp_path / "cache", encoder_key=encoder.key, dim=encoder.dim)
    with access.open() as media:
        return embed(
            instances,
            media=media,
            encoder=encoder,
            cache=cache,
            directory=tmp_path,
            progress=lambda *_: None,
            workers=2,
            missing=0.0,
        )


@pytest.fixture
def plain(access: MediaAccess, encoder: Encoder, tmp_path: Path) -> tuple[Pool, list[str]]:
    """The same texts in the data."""
    (tmp_path / "plain").mkdir()
    held = [Instance(number, "text", words) for number, words in enumerate(WORDS)]
    return run(held, access, encoder, tmp_path / "plain")


@pytest.mark.parametrize(("suffix", "file"), [("pdf", PDF), ("html", PAGE)])
def test_embed__a_text_in_a_file_gets_the_row_of_the_text(
    suffix: str, file: TextFile, host: Host, access: MediaAccess, encoder: Encoder, tmp_path: Path, plain
) -> None:
    busy = iter(range(2))
    host.refuse = lambda _: (429, {"Retry-After": "0"}) if next(busy, None) is not None else None
    names = [f"{number}.{suffix}" for number in range(3)]
    pool, hashes = run(located(host, [*names, "scan.pdf", "gone.pdf"], file), access, encoder, tmp_path)
    assert host.statuses[429] == 2
    assert hashes == plain[1]
    np.testing.assert_array_equal(pool.embeddings, plain[0].embeddings)
    assert "hold no text, as scans do" in pool.skipped[3]
    assert "answered 404" in pool.skipped[4]


def test_embed_on_cluster__texts_in_files(
    host: Host,
    access: MediaAccess,
    encoder: Encoder,
    tmp_path: Path,
    plain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def map_table(_, tables, kind, *arguments) -> Iterator[object]:
        worker = kind(*arguments)
        for table in tables:
            yield worker({name: np.array(values, dtype=object) for name, values in table.items()})

    monkeypatch.setattr(cluster_module, "map_table", map_table)
    real = MediaAccess.open
    opened: list[Media] = []
    monkeypatch.setattr(MediaAccess, "open", lambda own: opened.append(real(own)) or opened[-1])
    pool, hashes = embed_on_cluster(
        located(host, ["0.html", "1.html", "2.pdf", "scan.pdf"], PAGE),
        plan=WorkerPlan(lambda: encoder, encoder.key, Elsewhere("local", access), workers=2, missing=0.0),
        cluster=None,
        cache=EmbeddingCache(tmp_path / "cache", encoder_key=encoder.key, dim=encoder.dim),
        directory=tmp_path,
        progress=lambda *_: None,
    )
    assert hashes == plain[1]
    np.testing.assert_allclose(pool.embeddings, plain[0].embeddings, atol=1e-6)
    assert list(pool.skipped) == [3]
    opened[0].reader.close()  # a worker leaves that to its end

"""What becomes of misses on a cluster; its workers run in this process here, on a real one in `tests/distributed`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from usl_backend import encoders
from usl_backend.demo import dataset
from usl_backend.embedding import cluster as module
from usl_backend.embedding import outage
from usl_backend.embedding.cache import EmbeddingCache
from usl_backend.embedding.cluster import Elsewhere, WorkerPlan, embed_on_cluster
from usl_backend.encoders import Encoder
from usl_backend.errors import MediaHostError
from usl_backend.instances import Instance, Pool
from usl_backend.media import Location, MediaReader, UnavailableError
from usl_backend.sources.media import Media


class Absent(MediaReader):
    """A reader whose host is away for some files, so many times each."""

    def __init__(self, times: dict[str, int], root: Path) -> None:
        super().__init__(local_roots=[root])
        self.times = times

    def read(self, location: Location, *, once: bool = False) -> bytes:
        name = Path(str(location.path)).name
        if self.times.get(name, 0) > 0:
            self.times[name] -= 1
            raise UnavailableError("a.test answered 503", host="a.test")
        return super().read(location, once=once)


@dataclass
class Access:
    """Opens that reader."""

    reader: MediaReader

    def open(self) -> Media:
        return Media(self.reader, lambda instance: Location(path=Path(instance.source)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return dataset.write_images(tmp_path_factory.mktemp("pictures"))[:60]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return encoders.load("efficientnet-lite0", image_size=32)


@pytest.fixture
def embed(encoder: Encoder, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sizes: list[list[int]] = []

    def map_table(_, tables, kind, *arguments) -> Iterator[object]:
        sizes.append([len(table["id"]) for table in tables])
        worker = kind(*arguments)
        for table in tables:
            yield worker({name: np.array(values, dtype=object) for name, values in table.items()})

    monkeypatch.setattr(module, "map_table", map_table)
    monkeypatch.setattr(module, "BLOCK_ROWS", 20)
    monkeypatch.setattr(outage, "_PROBE_SECONDS", 0.001)

    def call(times: dict[str, int], *, missing: float = 0.02) -> tuple[Pool, list[list[int]]]:
        sizes.clear()
        access = Access(Absent(times, files[0].parent))
        pool, _ = embed_on_cluster(
            [Instance(number, "image", str(path)) for number, path in enumerate(files)],
            plan=WorkerPlan(
                lambda: encoder, encoder.key, Elsewhere("local", access), workers=2, missing=missing
            ),
            cluster=None,
            cache=EmbeddingCache(tmp_path / "cache", encoder_key=encoder.key, dim=encoder.dim),
            directory=tmp_path,
            progress=lambda *_: None,
        )
        return pool, sizes

    return call


def test_embed_on_cluster__what_a_worker_missed_is_asked_for_once_more_at_the_end(embed, files) -> None:
    # Two are missed by their worker to the end, and come when they go out again.
    pool, sizes = embed({files[3].name: 9, files[40].name: 9})
    assert (len(pool), pool.skipped) == (60, {})
    assert sizes == [[20, 20, 20], [2]]


def test_embed_on_cluster__few_are_set_aside_and_more_pause_the_run(embed, files) -> None:
    pool, _ = embed({files[3].name: 999})
    assert pool.skipped == {3: "a.test answered 503"}
    two = {files[3].name: 999, files[4].name: 999}
    with pytest.raises(MediaHostError, match=r"2 of 60 files .* 2 of a\.test"):
        embed(dict(two))
    pool, _ = embed(dict(two), missing=0.05)
    assert len(pool) == 58


def test_embed_on_cluster__a_host_that_is_away_pauses_the_run_before_every_part_has_waited(
    embed, files
) -> None:
    with pytest.raises(MediaHostError, match=r"20 of 60 files .* 20 of a\.test"):
        embed({path.name: 999 for path in files})

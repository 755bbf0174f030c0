"""Runs over pictures of a real HTTP server that is busy, or away for a while."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from file_host import Host, Refuse

from usl_backend import encoders
from usl_backend.demo import dataset
from usl_backend.embedding import outage
from usl_backend.embedding.cache import EmbeddingCache
from usl_backend.embedding.stage import embed
from usl_backend.encoders import Encoder
from usl_backend.errors import MediaHostError
from usl_backend.instances import Instance, Pool
from usl_backend.media import MediaReader
from usl_backend.sources.media import Media, locate

SIZE = 32
COUNT = 300


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return dataset.write_images(tmp_path_factory.mktemp("pictures"))[:COUNT]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return encoders.load("efficientnet-lite0", image_size=SIZE)


@pytest.fixture
def host(files: list[Path]) -> Iterator[Host]:
    with Host.running(files[0].parent) as server:
        yield server


Run = Callable[..., Pool]


@pytest.fixture
def run(encoder: Encoder, host: Host, files: list[Path], tmp_path: Path) -> Run:
    """Embed the host's pictures, in a fresh run's folder."""
    instances = [
        Instance(number, "image", f"http://{host.name}/{path.name}") for number, path in enumerate(files)
    ]
    folders = (tmp_path / f"run-{number}" for number in range(9))

    def call(**options: object) -> Pool:
        with Media(MediaReader(allowed_hosts=["127.0.0.1"]), locate) as media:
            defaults: dict[str, object] = {"progress": lambda *_: None, "workers": 8, "missing": 0.02}
            pool, _ = embed(
                instances,
                media=media,
                encoder=encoder,
                cache=EmbeddingCache(tmp_path / "cache", encoder_key=encoder.key, dim=encoder.dim),
                directory=next(folders),
                **{**defaults, **options},
            )
        return pool

    return call


def limited(count: int, seconds: float) -> Refuse:
    """So many in each window of time, then 429."""
    began, seen = 0.0, 0

    def refuse(_: str) -> tuple[int, dict[str, str]] | None:
        nonlocal began, seen
        now = time.monotonic()
        if now - began > seconds:
            began, seen = now, 0
        seen += 1
        return (429, {"Retry-After": "1"}) if seen > count else None

    return refuse


def test_embed__host_that_allows_so_many_requests_loses_no_picture(run: Run, host: Host) -> None:
    host.refuse = limited(60, 1.0)
    pool = run()
    assert (len(pool), pool.skipped) == (COUNT, {})
    assert host.statuses[429] <= 40, "it is not hammered"


def test_embed__host_that_is_away_for_two_seconds_loses_no_picture(run: Run, host: Host) -> None:
    asked = 0
    down: list[float] = []

    def refuse(_: str) -> tuple[int, dict[str, str]] | None:
        nonlocal asked
        asked += 1
        if asked == 100:
            down.append(time.monotonic())
        return (503, {}) if down and time.monotonic() - down[0] < 2 else None

    host.refuse = refuse
    pool = run()
    assert (len(pool), pool.skipped) == (COUNT, {})
    assert 8 <= host.statuses[503] <= 60


def test_embed__host_that_stays_away_pauses_the_run_which_then_goes_on(
    run: Run, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.array(run().embeddings)
    monkeypatch.setattr(outage, "_PROBE_SECONDS", 0.02)
    monkeypatch.setattr("usl_backend.media.hosts._BACKOFF_SECONDS", 0.02)
    host.statuses.clear()
    left = iter(range(100))
    host.refuse = lambda _: None if next(left, None) is not None else (503, {})
    told: set[str] = set()
    with pytest.raises(MediaHostError) as caught:
        run(progress=lambda step, *_: told.add(step))
    assert (
        f"200 of 300 files could not be fetched for reasons that may pass: 200 of {host.name} (127.0.0.1"
        in (str(caught.value))
    )
    assert any(step.startswith(f"waiting for {host.name}: answered 503") for step in told)
    assert host.statuses[503] < 150, "of the pictures that it lacks, most were not even asked for"
    host.refuse = lambda _: None
    np.testing.assert_array_equal(run().embeddings, expected)

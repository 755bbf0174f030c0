import hashlib
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from usl_backend import encoders
from usl_backend.demo import dataset
from usl_backend.embedding import outage, pump, reading, stage
from usl_backend.embedding.cache import EmbeddingCache
from usl_backend.embedding.stage import embed
from usl_backend.encoders import Encoder
from usl_backend.errors import (
    CancelledError,
    EncoderError,
    MediaError,
    MediaHostError,
    StudioAuthError,
    StudioError,
    StudioNotFoundError,
    StudioUnreachableError,
)
from usl_backend.instances import Instance, Pool
from usl_backend.media import Location, MediaReader, UnauthorizedError, UnavailableError, decode_image
from usl_backend.sources.media import Media

SIZE = 32


class Counting:
    """The real encoder, counting what it encodes."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.batch = 64
        self.key, self.modality, self.dim, self.size = (
            encoder.key,
            encoder.modality,
            encoder.dim,
            encoder.size,
        )
        self.encoded = 0
        self.largest = 0

    def encode(self, batch):
        self.encoded += len(batch)
        self.largest = max(self.largest, len(batch))
        return self._encoder.encode(batch)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same batches on every machine, however many cores it has."""
    monkeypatch.setattr(pump, "_PER_CORE", 1)


@pytest.fixture(scope="module")
def network() -> Encoder:
    return encoders.load("efficientnet-lite0", image_size=SIZE)


@pytest.fixture
def encoder(network: Encoder) -> Counting:
    return Counting(network)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return dataset.write_images(tmp_path_factory.mktemp("pictures"))[:200]


@pytest.fixture
def reader(files: list[Path], tmp_path: Path) -> Iterator[MediaReader]:
    with MediaReader(local_roots=[files[0].parent, tmp_path]) as made:
        yield made


def instances_of(paths: list[Path], start: int = 100) -> list[Instance]:
    return [Instance(start + number, "image", str(path)) for number, path in enumerate(paths)]


def silent(stage: str, done: int, total: int) -> None:
    """No one watches."""


@pytest.fixture
def run(encoder: Counting, reader: MediaReader, tmp_path: Path) -> Callable[..., tuple[Pool, list[str]]]:
    """Embed into one shared cache, each call in a fresh run's folder, as separate processes would."""
    runs = iter(range(100))

    def call(instances: list[Instance], **changes: object) -> tuple[Pool, list[str]]:
        locate = changes.pop("locate", lambda instance: reader.locate(instance.source))
        arguments: dict[str, object] = {
            "media": Media(changes.pop("reader", reader), locate),
            "encoder": encoder,
            "cache": EmbeddingCache(tmp_path / "cache", encoder_key=encoder.key, dim=encoder.dim),
            "directory": tmp_path / f"run-{next(runs)}",
            "progress": silent,
            "workers": 4,
            "missing": 0.02,
        }
        return embed(instances, **{**arguments, **changes})

    return call


def test_embed__rows_are_those_of_each_picture_by_id(run, encoder, network, files, reader) -> None:
    instances = instances_of(files)
    pool, hashes = run([instances[at] for at in np.random.default_rng(0).permutation(len(instances))])
    assert pool.ids.tolist() == list(range(100, 300))
    assert pool.skipped == {}
    assert isinstance(pool.embeddings, np.memmap)
    for row in (0, 57, 199):
        data = files[row].read_bytes()
        assert hashes[row] == hashlib.sha256(data).hexdigest()
        alone = network.encode([decode_image(data, size=SIZE, limits=reader.limits)])
        np.testing.assert_array_equal(pool.embeddings[row], alone[0])


def test_embed__second_run_encodes_nothing_and_new_instances_only_themselves(run, encoder, files) -> None:
    first, hashes = run(instances_of(files[:150]))
    assert encoder.encoded == 150
    second, again = run(instances_of(files[:150]))
    assert encoder.encoded == 150
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    assert again == hashes
    third, _ = run(instances_of(files))
    assert encoder.encoded == 200
    np.testing.assert_array_equal(third.embeddings[:150], first.embeddings)


def test_embed__equal_contents_are_encoded_once(run, encoder, files) -> None:
    pool, hashes = run(instances_of(files[:3] * 40))
    assert encoder.encoded == 3
    assert hashes == hashes[:3] * 40
    np.testing.assert_array_equal(pool.embeddings, np.tile(pool.embeddings[:3], (40, 1)))


def test_embed__unreadable_instances_are_set_aside_with_their_reasons(run, encoder, files, tmp_path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    contents = {
        "empty.png": b"",
        "page.png": b"<!doctype html><html></html>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "cut.png": files[0].read_bytes()[:200],
        "same-cut.png": files[0].read_bytes()[:200],
    }
    for name, data in contents.items():
        (bad / name).write_bytes(data)
    sources = [*map(str, files[:20]), *(str(bad / name) for name in contents), str(bad / "none.png"),
               "/etc/passwd", "http://127.0.0.1/a.png", "ftp://host/a.png", "../up.png"]  # fmt: skip
    instances = [Instance(number, "image", source) for number, source in enumerate(sources)]
    pool, hashes = run(instances)
    assert pool.ids.tolist() == list(range(20))
    assert len(hashes) == 20
    expected = [
        "empty",
        "HTML",
        "SVG",
        "truncated",
        "truncated",
        "No such file",
        "outside",
        "private",
        "scheme",
        r"'..'",
    ]
    assert sorted(pool.skipped) == list(range(20, 30))
    for reason, part in zip([pool.skipped[number] for number in range(20, 30)], expected, strict=True):
        assert part in reason
    assert encoder.encoded == 20


def test_embed__several_pictures_of_one_instance_are_one_row(run, encoder, network, files, reader) -> None:
    """Each picture is encoded once, whoever shows it; a broken one is missing from the mean of the others."""
    a, b, c = map(str, files[:3])
    instances = [
        Instance(1, "image", a, (b, c)),
        Instance(2, "image", b, ("/etc/passwd", c, b)),
        Instance(3, "image", "/etc/passwd", ("/etc/hosts",)),
        Instance(4, "image", a),
        Instance(5, "image", "/etc/passwd", (c,)),
    ]
    told: list[tuple[str, int, int]] = []
    pool, hashes = run(instances, progress=lambda *report: told.append(report))
    assert encoder.encoded == 3
    pictures = [decode_image(path.read_bytes(), size=SIZE, limits=reader.limits) for path in files[:3]]
    alone = np.concatenate([network.encode([one]) for one in pictures]).astype(np.float64)
    means = np.stack([alone.mean(axis=0), (2 * alone[1] + alone[2]) / 3])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert pool.ids.tolist() == [1, 2, 4, 5]
    np.testing.assert_allclose(pool.embeddings[:2], means, atol=1e-6)
    np.testing.assert_array_equal(pool.embeddings[2:], alone[[0, 2]].astype(np.float32))
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in files[:3]]
    assert hashes == [
        hashlib.sha256(b"".join(digests)).hexdigest(),
        hashlib.sha256(digests[1] + digests[2] + digests[1]).hexdigest(),
        digests[0].hex(),
        digests[2].hex(),
    ]
    assert list(pool.skipped) == [3]
    assert pool.skipped[3].endswith("(the first of 2 images)")
    assert sorted(pool.incomplete) == [2, 5]
    assert pool.incomplete[2].startswith("1 of 4 images left out, the first is number 2: ")
    assert told[-1][1:] == (11, 11)


def test_embed__everything_unreadable_is_an_empty_pool(run, tmp_path) -> None:
    pool, hashes = run([Instance(1, "image", str(tmp_path / "none.png"))])
    assert len(pool) == 0
    assert pool.embeddings.shape == (0, 1280)
    assert hashes == []
    assert list(pool.skipped) == [1]


def test_embed__no_instances(run) -> None:
    pool, hashes = run([])
    assert (len(pool), hashes, pool.skipped) == (0, [], {})


def test_embed__text_is_refused_by_name(run, encoder) -> None:
    with pytest.raises(EncoderError, match="takes images, but 5 is a text"):
        run([Instance(5, "text", "words")])


def test_embed__cancelled_keeps_what_was_encoded(run, encoder, files, monkeypatch) -> None:
    monkeypatch.setattr(pump, "_PATIENCE_SECONDS", 0.0)

    def cancel(stage: str, done: int, total: int) -> None:
        if done >= 64:
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        run(instances_of(files), progress=cancel)
    encoded = encoder.encoded
    assert 64 <= encoded < 200
    pool, _ = run(instances_of(files))
    assert len(pool) == 200
    assert encoder.encoded == 200


def test_embed__crash_while_encoding_loses_at_most_a_flush(
    run, encoder, files, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(pump, "FLUSH_ROWS", 64)
    flushed: list[int] = []
    real = EmbeddingCache.flush

    def flush(cache: EmbeddingCache) -> None:
        flushed.append(cache.pending)
        real(cache)

    monkeypatch.setattr(EmbeddingCache, "flush", flush)
    run(instances_of(files))
    assert max(flushed) <= 64 + encoder.largest
    assert sum(count > 0 for count in flushed) >= 3


def test_embed__progress_rises_to_the_total(run, files, monkeypatch) -> None:
    monkeypatch.setattr(pump, "_PATIENCE_SECONDS", 0.0)
    told: list[tuple[str, int, int]] = []
    run(instances_of(files), progress=lambda *report: told.append(report))
    assert {(step, total) for step, _, total in told} == {("reading and encoding", 200)}
    done = [done for _, done, _ in told]
    assert done == sorted(done)
    assert done[-1] == 200
    assert len(set(done)) > 3


def test_embed__reading_ahead_is_bounded(run, encoder, files, reader) -> None:
    opened: list[int] = []
    ahead: list[int] = []

    def locate(instance: Instance) -> Location:
        opened.append(instance.id)
        return reader.locate(instance.source)

    def watch(batch):
        ahead.append(len(opened) - encoder.encoded)
        return Counting.encode(encoder, batch)

    original = encoder.encode
    encoder.encode = watch
    instances = instances_of(dataset.write_images(files[0].parent))
    pool, _ = run(instances, locate=locate)
    encoder.encode = original
    assert len(pool) == 1200
    # Distinct pictures: what is read but not encoded is at most the window, three batches and the threads.
    assert max(ahead) <= 4 * encoder.largest + 4 + 64
    assert max(ahead) < 600


class Refusing(MediaReader):
    """A reader whose trusted origin fails as told."""

    def __init__(self, fails: Callable[[Location], MediaError | None], **options: object) -> None:
        super().__init__(**options)
        self.fails = fails
        self.calls = 0
        self.lock = threading.Lock()

    def read(self, location: Location, *, once: bool = False) -> bytes:
        with self.lock:
            self.calls += 1
        error = self.fails(location)
        if error is not None:
            raise error
        return super().read(location, once=once)


def trusted(instance: Instance) -> Location:
    return Location(path=Path(instance.source), trusted=True)


def of_stranger(instance: Instance) -> Location:
    return Location(path=Path(instance.source))


def test_embed__outage_stops_the_run_and_keeps_its_rows(run, encoder, files, monkeypatch) -> None:
    calls = iter(range(10**6))
    down = True
    refusing = Refusing(
        lambda _: UnavailableError("studio answered 502") if down and next(calls) >= 100 else None,
        local_roots=[files[0].parent],
    )
    monkeypatch.setattr(outage, "_PROBE_SECONDS", 0.01)
    with pytest.raises(
        StudioUnreachableError, match=r"cannot be fetched any more.* studio answered 502; resume"
    ):
        run(instances_of(files), reader=refusing, locate=trusted, workers=1)
    down = False
    before = encoder.encoded
    assert before >= 64
    pool, _ = run(instances_of(files), reader=refusing, locate=trusted)
    assert len(pool) == 200
    assert encoder.encoded == 200


def test_embed__short_outage_costs_no_instance(run, encoder, files, monkeypatch) -> None:
    monkeypatch.setattr(outage, "_PROBE_SECONDS", 0.01)
    calls = iter(range(10**6))
    refusing = Refusing(
        lambda _: UnavailableError("studio answered 502") if 50 <= next(calls) < 80 else None,
        local_roots=[files[0].parent],
    )
    pool, _ = run(instances_of(files), reader=refusing, locate=trusted)
    assert (len(pool), pool.skipped) == (200, {})
    assert encoder.encoded == 200


def test_embed__outage_at_the_very_end_stops_the_run(run, files, monkeypatch) -> None:
    """Too few are left for a row of failures, but none of them may be called unreadable."""
    monkeypatch.setattr(outage, "_PROBE_SECONDS", 0.01)
    calls = iter(range(10**6))
    refusing = Refusing(
        lambda _: UnavailableError("studio answered 502") if next(calls) >= 195 else None,
        local_roots=[files[0].parent],
    )
    with pytest.raises(StudioUnreachableError, match="studio answered 502; resume"):
        run(instances_of(files), reader=refusing, locate=trusted)


@pytest.mark.parametrize("whose", [trusted, of_stranger])
def test_embed__few_files_that_stay_away_are_set_aside_by_name(run, files, monkeypatch, whose) -> None:
    monkeypatch.setattr(outage, "_PROBE_SECONDS", 0.01)
    down = {str(path) for path in files[::50]}
    refusing = Refusing(
        lambda location: UnavailableError("answered 503") if str(location.path) in down else None,
        local_roots=[files[0].parent],
    )
    pool, _ = run(instances_of(files), reader=refusing, locate=whose)
    assert len(pool) == 196
    assert pool.skipped == dict.fromkeys((100, 150, 200, 250), "answered 503")
    assert refusing.calls >= 200 + 4, "asked for once more"


@pytest.mark.parametrize("whose", [trusted, of_stranger])
def test_embed__with_more_of_them_the_run_pauses_but_reads_all_others(
    run, encoder, files, monkeypatch, whose
) -> None:
    monkeypatch.setattr(outage, "_PROBE_SECONDS", 0.01)
    down = {str(path) for path in files[::40]}
    refusing = Refusing(
        lambda location: UnavailableError("answered 503") if str(location.path) in down else None,
        local_roots=[files[0].parent],
    )
    with pytest.raises(MediaHostError, match=r"5 of 200 files .* 5 of one host \(answered 503\).*now 0\.02"):
        run(instances_of(files), reader=refusing, locate=whose)
    assert encoder.encoded == 195
    pool, _ = run(instances_of(files), reader=refusing, locate=whose, missing=0.025)
    assert len(pool) == 195
    down.clear()
    pool, _ = run(instances_of(files), reader=refusing, locate=whose)
    assert (len(pool), encoder.encoded) == (200, 200)


def test_embed__a_stranger_that_stays_away_pauses_the_run(run, files, monkeypatch) -> None:
    monkeypatch.setattr(outage, "_PROBE_SECONDS", 0.01)
    refusing = Refusing(lambda _: UnavailableError("no answer", host="a.test"), local_roots=[files[0].parent])
    with pytest.raises(MediaHostError, match=r"200 of 200 files .*: 200 of a\.test \(no answer\)"):
        run(instances_of(files), reader=refusing)


def test_embed__expired_token_is_renewed_once(run, files) -> None:
    tokens: dict[int, int] = {}

    def locate(instance: Instance) -> Location:
        tokens[instance.id] = tokens.get(instance.id, 0) + 1
        headers = {"Authorization": f"Bearer {tokens[instance.id]}"}
        return Location(path=Path(instance.source), headers=headers, trusted=True)

    refusing = Refusing(
        lambda location: (
            None if location.headers["Authorization"] == "Bearer 2" else UnauthorizedError("401")
        ),
        local_roots=[files[0].parent],
    )
    pool, _ = run(instances_of(files), reader=refusing, locate=locate)
    assert len(pool) == 200
    assert set(tokens.values()) == {2}


def test_embed__dead_token_stops_the_run(run, files) -> None:
    refusing = Refusing(lambda _: UnauthorizedError("studio answered 401"), local_roots=[files[0].parent])
    with pytest.raises(StudioAuthError, match="renew LABEL_STUDIO_API_KEY"):
        run(instances_of(files), reader=refusing, locate=trusted)


def test_embed__401_of_a_stranger_is_a_skip(run, files) -> None:
    refusing = Refusing(lambda _: UnauthorizedError("stranger answered 401"), local_roots=[files[0].parent])
    pool, _ = run(instances_of(files[:3]), reader=refusing)
    assert set(pool.skipped.values()) == {"stranger answered 401"}


def test_embed__task_deleted_meanwhile_is_a_skip_but_a_broken_studio_is_not(run, files, reader) -> None:
    def locate(error: StudioError) -> Callable[[Instance], Location]:
        def one(instance: Instance) -> Location:
            if instance.id == 101:
                raise error
            return reader.locate(instance.source)

        return one

    pool, _ = run(instances_of(files[:5]), locate=locate(StudioNotFoundError("no task 101")))
    assert pool.skipped == {101: "it is gone from Label Studio: no task 101"}
    with pytest.raises(StudioError, match="odd answer"):
        run(instances_of(files[:5]), locate=locate(StudioError("odd answer")))


def test_embed__damaged_shard_is_encoded_again(run, encoder, files, tmp_path) -> None:
    first, _ = run(instances_of(files[:70]))
    expected = np.array(first.embeddings)
    shard = tmp_path / "cache" / encoder.key / "0.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    second, _ = run(instances_of(files[:70]))
    np.testing.assert_array_equal(second.embeddings, expected)
    assert encoder.encoded == 140


def running_readers() -> list[multiprocessing.Process]:
    return [process for process in multiprocessing.active_children() if process.name == "usl-read"]


def test_embed__processes_read_what_threads_read(run, encoder, files, tmp_path, reader) -> None:
    """Good, cut, equal and missing pictures, and some that the cache has."""
    run(
        instances_of(files[:30]),
        cache=EmbeddingCache(tmp_path / "a", encoder_key=encoder.key, dim=encoder.dim),
    )
    run(
        instances_of(files[:30]),
        cache=EmbeddingCache(tmp_path / "b", encoder_key=encoder.key, dim=encoder.dim),
    )
    for number in range(2):
        (tmp_path / f"cut{number}.png").write_bytes(files[0].read_bytes()[:200])
    cut = [tmp_path / "cut0.png", tmp_path / "cut1.png"]
    instances = instances_of([*files[:90], *files[20:40], *cut, tmp_path / "none.png", Path("/etc/passwd")])

    def locate(instance: Instance) -> Location:
        if instance.id == 101:
            raise StudioNotFoundError("no task 101")
        return reader.locate(instance.source)

    told = {}
    for name, processes in (("a", False), ("b", True)):
        before = encoder.encoded
        cache = EmbeddingCache(tmp_path / name, encoder_key=encoder.key, dim=encoder.dim)
        pool, hashes = run(instances, cache=cache, processes=processes, workers=2, locate=locate)
        told[name] = (pool.ids.tolist(), pool.skipped, hashes, encoder.encoded - before)
        told[name + " rows"] = np.array(pool.embeddings)
    assert told["a"] == told["b"]
    assert told["b"][3] == 60
    assert len(told["b"][1]) == 5
    np.testing.assert_array_equal(told["a rows"], told["b rows"])
    assert running_readers() == []


def test_embed__a_reading_process_that_is_killed_costs_no_instance(
    run, encoder, files, caplog, monkeypatch
) -> None:
    # Looked at all the time: else everything may be read before the first look.
    monkeypatch.setattr(pump, "_PATIENCE_SECONDS", 0.0)
    killed: list[int] = []

    def kill(stage: str, done: int, total: int) -> None:
        for process in running_readers():
            if len(killed) < 2 and process.pid not in killed and process.pid is not None:
                killed.append(process.pid)
                process.kill()

    pool, _ = run(instances_of(files), processes=True, workers=2, progress=kill)
    assert (len(pool), pool.skipped, encoder.encoded) == (200, {}, 200)
    assert len(killed) == 2
    assert "a process that reads pictures is gone" in caplog.text


def test_embed__a_reading_process_that_cannot_be_started_ends_the_run(run, files, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(reading, "ReadingProcess", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        run(instances_of(files), processes=True, workers=2)


def test_embed__cancelled_ends_the_reading_processes(run, files, monkeypatch) -> None:
    monkeypatch.setattr(pump, "_PATIENCE_SECONDS", 0.0)
    seen: list[int] = []

    def cancel(stage: str, done: int, total: int) -> None:
        seen.append(len(running_readers()))
        if done >= 64:
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        run(instances_of(files), processes=True, workers=2, progress=cancel)
    assert max(seen) == 2
    assert running_readers() == []


def test_embed__content_that_a_process_takes_for_known_is_read_again(run, encoder, files, tmp_path) -> None:
    """Two contents whose hashes begin with the same eight bytes cannot be had: the cache lies about its own."""
    cache = EmbeddingCache(tmp_path / "cache", encoder_key=encoder.key, dim=encoder.dim)
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files[:20]]
    cache.prefixes = lambda: np.sort(np.array([int(one[:16], 16) for one in hashes[::2]], dtype=np.uint64))
    pool, found = run(instances_of(files[:20]), cache=cache, processes=True, workers=1)
    assert (len(pool), found, encoder.encoded) == (20, hashes, 20)


class _Picky(BaseHTTPRequestHandler):
    """Serves files to whoever has the second token."""

    def do_GET(self) -> None:
        fresh = self.headers["Authorization"] == "Bearer 2"
        body = (self.server.folder / self.path[1:]).read_bytes() if fresh else b""  # type: ignore[attr-defined]
        self.send_response(200 if fresh else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("accepted", [True, False])
def test_embed__token_that_expires_is_renewed_where_processes_read(run, encoder, files, accepted) -> None:
    asked: dict[int, int] = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), _Picky) as server:
        server.folder = files[0].parent
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def locate(instance: Instance) -> Location:
            asked[instance.id] = asked.get(instance.id, 0) + 1
            token = asked[instance.id] if accepted else 1
            url = f"http://127.0.0.1:{server.server_address[1]}/{Path(instance.source).name}"
            return Location(url=url, headers={"Authorization": f"Bearer {token}"}, trusted=True)

        with MediaReader(allowed_hosts=["127.0.0.1"]) as reader:
            arguments = {"locate": locate, "reader": reader, "processes": True, "workers": 2}
            try:
                if accepted:
                    pool, _ = run(instances_of(files[:40]), **arguments)
                    assert (len(pool), set(asked.values())) == (40, {2})
                else:
                    with pytest.raises(StudioAuthError, match="renew LABEL_STUDIO_API_KEY"):
                        run(instances_of(files[:40]), **arguments)
            finally:
                server.shutdown()
                thread.join()
    assert running_readers() == []


def test_embed__memory_of_the_pictures_is_returned_before_the_shards_are_mapped(
    run, files, monkeypatch
) -> None:
    happened: list[str] = []
    lay_out = stage.lay_out
    monkeypatch.setattr(stage, "return_freed_memory", lambda **_: happened.append("returned"))
    monkeypatch.setattr(stage, "lay_out", lambda *given: (happened.append("laid out"), lay_out(*given))[1])
    run(instances_of(files[:3]))
    assert happened == ["returned", "laid out"]

import contextlib
import errno
import hashlib
import json
import logging
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from shard_writers import DIM, append_forever, append_many, cache_at, digest, fill, rows

from usl_backend.embedding import cache as module
from usl_backend.embedding.cache import EmbeddingCache
from usl_backend.errors import RunError
from usl_backend.outliers import UNMEASURED, Traits


def known(cache: EmbeddingCache, numbers: list[int]) -> list[bool]:
    return cache.known([digest(number) for number in numbers]).tolist()


def test_gather__rows_in_the_asked_order_across_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GATHER_ROWS", 7)
    cache = cache_at(tmp_path)
    for start in range(0, 50, 10):
        fill(cache, list(range(start, start + 10)))
        cache.flush()
    order = np.random.default_rng(1).integers(0, 50, 120).tolist()
    gathered = cache_at(tmp_path).gather([digest(number) for number in order], tmp_path / "run" / "out.npy")
    assert isinstance(gathered, np.memmap)
    np.testing.assert_array_equal(gathered, rows(order))
    np.testing.assert_array_equal(np.load(tmp_path / "run" / "out.npy", allow_pickle=False), rows(order))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["out.npy"]


def test_gather__several_contents_become_their_unit_length_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GATHER_ROWS", 3)
    cache = cache_at(tmp_path)
    for start in range(0, 20, 10):
        fill(cache, list(range(start, start + 10)))
        cache.flush()
    groups = [[3], [1, 12, 5], [7, 7], [19], [0, 1, 2, 3, 4, 5, 6], [12, 3], [4]]
    contents = [digest(one[0]) if len(one) == 1 else tuple(map(digest, one)) for one in groups]
    gathered = cache.gather(contents, tmp_path / "out.npy")
    for row, numbers in zip(gathered, groups, strict=True):
        mean = rows(numbers).astype(np.float64).mean(axis=0)
        wanted = rows(numbers)[0] if len(numbers) == 1 else mean / np.linalg.norm(mean)
        np.testing.assert_allclose(row, wanted, rtol=1e-6)
    np.testing.assert_array_equal(gathered[[0, 3, 6]], rows([3, 19, 4]))


def test_gather__of_rows_without_a_mean_direction_the_first_stands(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    opposite = np.zeros((2, DIM), dtype=np.float32)
    opposite[:, 0] = 1, -1
    cache.append([digest(1), digest(2)], opposite)
    gathered = cache.gather([(digest(1), digest(2))], tmp_path / "out.npy")
    np.testing.assert_array_equal(gathered, opposite[:1])


def test_gather__nothing(tmp_path: Path) -> None:
    assert cache_at(tmp_path).gather([], tmp_path / "out.npy").shape == (0, DIM)


def test_gather__flushes_what_is_pending(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    fill(cache, [1, 2])
    np.testing.assert_array_equal(cache.gather([digest(2)], tmp_path / "out.npy"), rows([2]))
    assert cache.pending == 0


def test_gather__unknown_content(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        cache_at(tmp_path).gather([digest(1)], tmp_path / "out.npy")


def test_traits__of_contents_across_shards_and_openings(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    first, second = Traits(3.0, -0.25, 28.0), Traits(letters=7.0)
    cache.append([digest(1), digest(2)], rows([1, 2]), [first, second])
    cache.flush()
    fill(cache, [3])
    cache.append([digest(4), digest(5)], rows([4, 5]), [Traits(5.0, -0.5, np.inf), Traits(letters=810_000.0)])
    asked = [digest(4), digest(2), digest(3), (digest(1), digest(3), digest(4)), digest(1), digest(5)]
    wanted = [Traits(5.0, -0.5, np.inf), second, UNMEASURED, Traits(5.0, -0.25, np.inf), first]
    wanted.append(Traits(letters=np.inf))
    np.testing.assert_array_equal(cache.traits(asked), np.array(wanted, np.float32))
    assert cache.pending == 0
    np.testing.assert_array_equal(cache_at(tmp_path).traits(asked), np.array(wanted, np.float32))
    with pytest.raises(KeyError):
        cache.traits([digest(9)])


def test_traits__not_known_of_a_shard_of_former_versions(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    cache.append([digest(1)], rows([1]), [Traits(3.0, 0.5, 28.0)])
    cache.flush()
    path = tmp_path / "encoder-1" / "0.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in described.items() if name != "traits"}))
    assert np.isnan(cache_at(tmp_path).traits([digest(1)])).all()
    np.testing.assert_array_equal(cache_at(tmp_path).gather([digest(1)], tmp_path / "out.npy"), rows([1]))


@pytest.mark.parametrize("text", ["no base64", "AAAA", ""], ids=str)
def test_traits__a_shard_whose_traits_do_not_fit_its_rows_is_damaged(tmp_path: Path, text: str) -> None:
    cache = cache_at(tmp_path)
    fill(cache, [1])
    cache.flush()
    path = tmp_path / "encoder-1" / "0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"traits": text}))
    assert known(cache_at(tmp_path), [1]) == [False]
    assert (tmp_path / "encoder-1" / "0.json.damaged").exists()


def test_known__survives_reopening_only_when_flushed(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    fill(cache, [1, 2])
    cache.flush()
    fill(cache, [3])
    assert known(cache, [1, 2, 3, 4]) == [True, True, True, False]
    assert known(cache_at(tmp_path), [1, 2, 3, 4]) == [True, True, False, False]
    assert len(cache) == 3


def test_known__other_encoder_other_rows(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    fill(cache, [1])
    cache.flush()
    assert known(cache_at(tmp_path, "encoder-2"), [1]) == [False]


def test_append__repeated_content_keeps_its_first_row(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    fill(cache, [1])
    cache.append([digest(1), digest(2), digest(2)], rows([9, 2, 8]))
    cache.flush()
    cache.append([digest(1)], rows([9]))
    assert cache.pending == 0
    np.testing.assert_array_equal(cache.gather([digest(1), digest(2)], tmp_path / "out.npy"), rows([1, 2]))


@pytest.mark.parametrize("bad", [rows([1, 2]), np.zeros((1, DIM + 1), np.float32), np.full((1, DIM), np.nan)])
def test_append__refuses_what_does_not_fit(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="vectors"):
        cache_at(tmp_path).append([digest(1)], bad)


def test_flush__shards_are_bounded_and_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 8)
    cache = cache_at(tmp_path)
    fill(cache, list(range(20)))
    cache.flush()
    folder = tmp_path / "encoder-1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "0.json", "0.npy", "1.json", "1.npy", "2.json", "2.npy",
    ]  # fmt: skip
    assert [len(np.load(folder / f"{number}.npy", allow_pickle=False)) for number in range(3)] == [8, 8, 4]
    described = json.loads((folder / "1.json").read_text())
    assert described["hashes"] == [digest(number) for number in range(8, 16)]
    assert described["sha256"] == hashlib.sha256((folder / "1.npy").read_bytes()).hexdigest()
    assert described["dtype"] == "float32"
    assert known(cache_at(tmp_path), list(range(20))) == [True] * 20


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("damage", [flipped, shortened, emptied, Path.unlink])
def test_known__damaged_shard_is_set_aside_and_recomputed(
    tmp_path: Path, damage, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = cache_at(tmp_path)
    fill(cache, [1, 2])
    cache.flush()
    fill(cache, [3])
    cache.flush()
    path = tmp_path / "encoder-1" / f"0{suffix}"
    if suffix == ".json" and damage is flipped:
        path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    else:
        damage(path)
    with caplog.at_level(logging.WARNING):
        reopened = cache_at(tmp_path)
        assert known(reopened, [1, 2, 3]) == [False, False, True]
    if not (suffix == ".json" and damage is Path.unlink):  # a shard without JSON was never finished
        assert "encoder-1/0 is damaged" in caplog.text
    fill(reopened, [1, 2])
    gathered = reopened.gather([digest(number) for number in (3, 2, 1)], tmp_path / "out.npy")
    np.testing.assert_array_equal(gathered, rows([3, 2, 1]))
    caplog.clear()
    assert known(cache_at(tmp_path), [1, 2, 3]) == [True, True, True]
    assert caplog.text == ""


def test_known__shard_with_pickled_rows_is_not_loaded(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    fill(cache, [1])
    cache.flush()
    path = tmp_path / "encoder-1" / "0.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    description = path.with_suffix(".json")
    described = json.loads(description.read_text())
    described["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    description.write_text(json.dumps(described))
    assert known(cache_at(tmp_path), [1]) == [False]


@pytest.mark.parametrize("step", ["fsync", "link", "replace"])
def test_flush__full_disk_leaves_nothing_half_written(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_at(tmp_path)
    fill(cache, [1, 2])

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(*(Path, "replace") if step == "replace" else (os, step), full)
        with pytest.raises(RunError, match=r"No space left on device; free some disk"):
            cache.flush()
    assert known(cache_at(tmp_path), [1, 2]) == [False, False]
    assert not list((tmp_path / "encoder-1").glob(".*"))
    cache.flush()
    assert known(cache_at(tmp_path), [1, 2]) == [True, True]


def test_init__folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match="cannot be kept"):
        cache_at(tmp_path / "file")


@pytest.mark.parametrize("key", ["../up", "a/b", "", ".hidden"])
def test_init__key_that_is_no_folder_name(tmp_path: Path, key: str) -> None:
    with pytest.raises(RunError, match="cannot name a folder"):
        cache_at(tmp_path, key)


def test_flush__killed_process_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    delays = np.random.default_rng(5).uniform(0.0, 0.02, 6)
    flushed = 0
    for delay in delays:
        reading, writing = context.Pipe(duplex=False)
        process = context.Process(target=append_forever, args=(tmp_path, writing))
        process.start()
        writing.close()
        assert reading.poll(60)
        time.sleep(delay)
        process.kill()
        process.join()
        with contextlib.suppress(EOFError):
            while True:
                flushed = reading.recv()
        reading.close()
        assert known(cache_at(tmp_path), list(range(flushed))) == [True] * flushed
    assert flushed > 0
    cache = cache_at(tmp_path)
    gathered = cache.gather([digest(number) for number in range(flushed)], tmp_path / "out.npy")
    np.testing.assert_array_equal(gathered, rows(list(range(flushed))))
    assert not list((tmp_path / "encoder-1").glob("*.damaged"))


def test_init__sweeps_up_what_killed_processes_left(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    fill(cache, [1])
    cache.flush()
    folder = tmp_path / "encoder-1"
    left = [folder / ".abc.tmp", folder / "7.npy"]
    young = [folder / ".def.tmp", folder / "8.npy"]
    for path in left + young:
        path.write_bytes(b"half")
    for path in left:
        os.utime(path, (0, 0))
    for path in folder.glob("0.*"):
        os.utime(path, (0, 0))
    assert known(cache_at(tmp_path), [1]) == [True]
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in young)


def test_flush__several_processes_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append_many, args=(tmp_path, start)) for start in (0, 20, 40)]
    watching = cache_at(tmp_path)
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    watching.refresh()
    numbers = list(range(80))
    gathered = watching.gather([digest(number) for number in numbers], tmp_path / "out.npy")
    np.testing.assert_array_equal(gathered, rows(numbers))


def test_prefixes__are_those_of_every_content_on_disk_ascending(tmp_path: Path) -> None:
    cache = cache_at(tmp_path)
    assert len(cache.prefixes()) == 0
    fill(cache, [1, 2, 3])
    cache.flush()
    fill(cache, [4, 5])
    cache.flush()
    found = cache_at(tmp_path).prefixes()
    assert found.tolist() == sorted(int(digest(number)[:16], 16) for number in range(1, 6))
    # Nobody may count on the rows of a damaged shard.
    damaged = cache.directory / "0.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert cache_at(tmp_path).prefixes().tolist() == sorted(int(digest(number)[:16], 16) for number in (4, 5))

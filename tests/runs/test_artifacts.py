import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from usl_backend.errors import RunError
from usl_backend.instances import EmbeddedField, Instance, Pool, Queue
from usl_backend.runs import RunFiles
from usl_backend.runs.artifacts import atomic_write
from usl_backend.runs.inventory import Inventory, Listed
from usl_backend.runs.published import Published
from usl_backend.selection.base import Neighbors, Selection


@pytest.fixture
def files(tmp_path):
    return RunFiles(tmp_path / "12-7")


def _pool(n=5, d=3):
    rows = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    return Pool(np.arange(10, 10 + n), rows, {3: "not an image: Größe 0", 4: "gone"})


def test_atomic_write__failure_leaves_the_old_and_no_litter(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_write(path) as stream:
        stream.writelines([b"new", "not bytes"])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write__not_there_before_the_end(tmp_path):
    path = tmp_path / "x"
    with atomic_write(path) as stream:
        stream.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_atomic_write__threads_that_write_one_file_do_not_meet(tmp_path):
    path, together = tmp_path / "x", threading.Barrier(8)

    def write(number):
        with atomic_write(path) as stream:
            together.wait(10)
            stream.write(bytes([number]) * 1000)
        return path.read_bytes()

    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(write, range(8)))
    assert {len(content) for content in seen} == {1000}
    assert all(len(set(content)) == 1 for content in seen)
    assert list(tmp_path.iterdir()) == [path]


def test_instances__round_trip(files):
    instances = [
        Instance(4, "image", "/data/upload/ü.png", ("/b.png",), (("words", "more words"),), "k"),
        Instance(9, "text", "two\nlines\u2028three"),
    ]
    assert not files.has_instances()
    inventory = Inventory(
        classes=("a", "b"),
        fields=(EmbeddedField("photo", "image", 0.5),),
        skipped={7: "it is empty"},
        several=1,
        outside=Listed("image", ("/photos",), "2 hidden", 3),
    )
    files.write_instances(instances, inventory)
    assert files.has_instances()
    assert files.read_instances() == instances
    assert files.read_inventory() == inventory


def test_pool__round_trip_memory_mapped(files):
    pool = _pool()
    files.write_pool(pool, [f"{i:064x}" for i in range(5)])
    again, hashes = files.read_pool()
    np.testing.assert_array_equal(again.ids, pool.ids)
    np.testing.assert_array_equal(again.embeddings, pool.embeddings)
    assert isinstance(again.embeddings, np.memmap)
    assert not again.embeddings.flags.writeable
    assert again.skipped == pool.skipped
    assert hashes[4] == f"{4:064x}"


def test_pool__embeddings_already_in_place_are_not_written_again(files):
    pool = _pool()
    np.save(files.embeddings, pool.embeddings)
    before = files.embeddings.stat().st_ino
    mapped = np.load(files.embeddings, mmap_mode="r")
    files.write_pool(Pool(pool.ids, mapped), ["00"] * 5)
    assert files.embeddings.stat().st_ino == before
    np.testing.assert_array_equal(files.read_pool()[0].embeddings, pool.embeddings)


def test_pool__keeps_what_is_missing_from_a_row(files):
    pool = replace(_pool(), incomplete={2: "1 of 3 images left out"})
    files.write_pool(pool, ["00"] * 5)
    assert files.read_pool()[0].incomplete == {2: "1 of 3 images left out"}


def test_pool__of_a_former_version_lacks_nothing(files):
    files.write_pool(_pool(), ["00"] * 5)
    with np.load(files.directory / files.POOL) as arrays:
        kept = {name: arrays[name] for name in arrays if name not in ("incomplete", "traits")}
    np.savez(files.directory / files.POOL, **kept)
    pool, _ = files.read_pool()
    assert (pool.incomplete, pool.traits) == ({}, None)


def test_pool__keeps_what_was_measured(files):
    files.write_pool(_pool(), ["00"] * 5)
    assert files.read_pool()[0].traits is None
    traits = np.random.default_rng(0).random((5, 4), np.float32)
    files.write_pool(replace(_pool(), traits=traits), ["00"] * 5)
    np.testing.assert_array_equal(files.read_pool()[0].traits, traits)


def test_pool__empty(files):
    files.write_pool(Pool(np.empty(0, np.int64), np.empty((0, 3), np.float32)), [])
    pool, hashes = files.read_pool()
    assert (len(pool), hashes) == (0, [])


def test_pool__hashes_must_match(files):
    with pytest.raises(ValueError, match=r"hashes \(4\) must match the pool \(5\)"):
        files.write_pool(_pool(), ["00"] * 4)


def test_neighbors__round_trip(files):
    neighbors = Neighbors(np.array([[1], [0]], np.int32), np.array([[0.5], [0.5]], np.float32), exact=False)
    files.write_neighbors(neighbors)
    again = files.read_neighbors()
    np.testing.assert_array_equal(again.indices, neighbors.indices)
    np.testing.assert_array_equal(again.distances, neighbors.distances)
    assert again.exact is False


@pytest.mark.parametrize("score", [None, np.array([0.5, 0.25, 1.0], np.float32)])
def test_selection__round_trip(files, score):
    selection = Selection(
        np.array([2, 0]),
        np.array([1.0, 0.5]),
        score,
        np.array([1, 0, 0], np.int32),
        {"k": np.int64(5)},
        {"moves": [1]},
    )
    files.write_selection(selection)
    again = files.read_selection()
    np.testing.assert_array_equal(again.indices, [2, 0])
    np.testing.assert_array_equal(again.cluster, [1, 0, 0])
    assert (again.score is None) == (score is None)
    if score is not None:
        np.testing.assert_array_equal(again.score, score)
    assert again.parameters == {"k": 5}
    assert again.diagnostics == {"moves": [1]}


def test_published__round_trip(files):
    published = Published(Queue.of([np.int64(4), 2], control=[2, 9]), model_version="usl-12-7")
    files.write_published(published)
    assert files.read_published() == published


def test_read__missing_says_what_to_do(files):
    with pytest.raises(RunError, match=r"run 12-7 has no selection.json yet; resume"):
        files.read_selection()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a file", b"{"])
@pytest.mark.parametrize("name", ["pool", "neighbors", "selection", "published", "instances"])
def test_read__damaged_says_what_to_do(files, name, damage):
    artifact = {"published": files.PUBLISHED, "instances": files.INSTANCES}.get(name, f"{name}.npz")
    (files.directory / artifact).write_bytes(damage)
    if name == "selection":
        (files.directory / files.SELECTION_TEXT).write_text("{}")
    with pytest.raises(RunError, match=r"is damaged .* delete .* and resume"):
        getattr(files, f"read_{name}")()


def test_read__pickled_arrays_are_refused(files):
    with (files.directory / files.NEIGHBORS).open("wb") as stream:
        np.savez(
            stream, indices=np.array([object()], dtype=object), distances=np.zeros(1), exact=np.asarray(1)
        )
    with pytest.raises(RunError, match="is damaged"):
        files.read_neighbors()


def test_checkpoint__is_replaced_whole_and_cleared(files):
    kept = files.checkpoint()
    assert kept.read() is None
    kept.write(b"first epoch")
    kept.write(b"second")
    assert files.checkpoint().read() == b"second"
    assert [path.name for path in files.directory.iterdir()] == [files.CHECKPOINT]
    kept.clear()
    kept.clear()
    assert kept.read() is None


def test_reading_back__remembers_when_the_first_interrupted_one_began(files):
    with files.reading_back(100.0) as since:
        assert since is None
    for now in (200.0, 300.0):
        with contextlib.suppress(KeyboardInterrupt), files.reading_back(now) as since:
            assert since == (None if now == 200.0 else 200.0)
            raise KeyboardInterrupt
    with files.reading_back(400.0) as since:
        assert since == 200.0
    with files.reading_back(500.0) as since:
        assert since is None


def test_reading_back__understands_the_empty_mark_of_former_versions(files):
    mark = files.directory / files.READING_BACK
    mark.touch()
    os.utime(mark, (150.0, 150.0))
    with files.reading_back(200.0) as since:
        assert since == 150.0
    assert not mark.exists()

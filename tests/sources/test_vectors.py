"""Vector files: what can be taken as it is, what is left out, what is refused."""

import io
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usl_backend.errors import InputError
from usl_backend.sources import VectorFile, read_manifest
from usl_backend.sources.target import Target

ROWS = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)


def saved(folder: Path, array: np.ndarray, name: str = "v.npy") -> Path:
    np.save(folder / name, array)
    return folder / name


def opened(path: Path, **keys: Any) -> VectorFile:
    found = read_manifest(Target(str(path), **keys))
    assert isinstance(found, VectorFile)
    return found


def parquet(folder: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), folder / "v.parquet")
    return folder / "v.parquet"


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_npy__is_mapped_and_not_copied(tmp_path: Path, dtype: type) -> None:
    path = saved(tmp_path, ROWS.astype(dtype))
    found = opened(path).read(tmp_path / "copy.npy")
    assert isinstance(found.pool.embeddings, np.memmap)
    assert Path(found.pool.embeddings.filename) == path
    assert found.pool.embeddings.dtype == dtype
    np.testing.assert_array_equal(found.pool.embeddings, ROWS.astype(dtype))
    np.testing.assert_array_equal(found.pool.ids, np.arange(50))
    assert not (tmp_path / "copy.npy").exists()


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed", "parquet", "fixed"])
def test_read__every_kind_gives_the_same_rows_and_digest(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path, ROWS)
    reference = opened(path).read(tmp_path / "none.npy").digest
    if kind == "npz":
        path = tmp_path / "v.npz"
        np.savez(path, embeddings=ROWS, other=np.arange(3))
    elif kind == "compressed":
        path = tmp_path / "v.npz"
        np.savez_compressed(path, ROWS)
    elif kind == "parquet":
        path = parquet(tmp_path, {"embedding": ROWS.tolist(), "bbox": [[1, 2]] * 50})
    elif kind == "fixed":
        column = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 7)
        path = parquet(tmp_path, {"what": column})
    found = opened(path).read(tmp_path / "copy.npy")
    np.testing.assert_array_equal(found.pool.embeddings, ROWS)
    assert isinstance(found.pool.embeddings, np.memmap)
    assert found.digest == reference


def test_read__float64_and_integers_become_float32(tmp_path: Path) -> None:
    for number, array in enumerate((ROWS.astype(np.float64), np.arange(20).reshape(10, 2))):
        found = opened(saved(tmp_path, array, f"{number}.npy")).read(tmp_path / f"copy{number}.npy")
        assert found.pool.embeddings.dtype == np.float32
        np.testing.assert_array_equal(found.pool.embeddings, array.astype(np.float32))


def test_read__rows_with_nan_or_infinity_are_left_out_by_name(tmp_path: Path) -> None:
    bad = ROWS.copy()
    bad[3, 1], bad[7, 0] = np.nan, np.inf
    found = opened(saved(tmp_path, bad)).read(tmp_path / "copy.npy").pool
    why = "it has NaN or infinity in it"
    assert found.skipped == {3: why, 7: why}
    good = np.setdiff1d(np.arange(50), [3, 7])
    np.testing.assert_array_equal(found.ids, good)
    np.testing.assert_array_equal(found.embeddings, ROWS[good])
    assert not list(tmp_path.glob(".*"))


def test_read__what_float32_cannot_hold_is_infinite(tmp_path: Path) -> None:
    rows = ROWS.astype(np.float64)
    rows[2, 2] = 1e300
    assert set(opened(saved(tmp_path, rows)).read(tmp_path / "copy.npy").pool.skipped) == {2}


def test_parquet__rows_of_another_width_are_left_out_by_name(tmp_path: Path) -> None:
    lists: list[list[float] | None] = ROWS.tolist()
    lists[0] = [1.0, 2.0]
    lists[9] = None
    lists[11] = []
    found = opened(parquet(tmp_path, {"embedding": lists})).read(tmp_path / "copy.npy").pool
    assert found.skipped == {0: "it has 2 numbers, not 7", 9: "it has no vector", 11: "it has no vector"}
    np.testing.assert_array_equal(found.embeddings, ROWS[found.ids])


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_read__missing_and_repeated_ids_are_left_out_by_name(tmp_path: Path, kind: str) -> None:
    ids = [f"i{row}" for row in range(50)]
    ids[4], ids[8] = "", "i2"
    if kind == "npz":
        path = tmp_path / "v.npz"
        np.savez(path, embeddings=ROWS, ids=np.array(ids), labels=np.array(["cat"] * 50))
    else:
        path = parquet(
            tmp_path, {"id": [name or None for name in ids], "vector": ROWS.tolist(), "label": ["cat"] * 50}
        )
    found = opened(path).read(tmp_path / "copy.npy")
    assert found.pool.skipped == {4: "its id is missing", 8: 'its id is "i2", as that of row 2'}
    assert found.keys is not None
    assert list(found.keys) == ids
    assert found.labels == ["cat"] * 50
    np.testing.assert_array_equal(found.pool.embeddings, ROWS[found.pool.ids])


def test_npz__ids_of_another_number_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", embeddings=ROWS, ids=np.arange(49))
    with pytest.raises(InputError, match=r'"ids" \(49,\) of .*v\.npz must match "embeddings" \(50, 7\)'):
        opened(tmp_path / "v.npz")


def test_npz__several_arrays_that_may_be_meant(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", left=ROWS, right=ROWS)
    with pytest.raises(InputError, match=r"\(arrays: left, right\); choose one: --data-key NAME"):
        opened(tmp_path / "v.npz")
    assert opened(tmp_path / "v.npz", data_key="right").rows == 50
    with pytest.raises(InputError, match=r'has no vectors "rigt" \(--data-key\); did you mean "right"\?'):
        opened(tmp_path / "v.npz", data_key="rigt")


def test_parquet__without_the_column(tmp_path: Path) -> None:
    path = parquet(tmp_path, {"embedding": ROWS.tolist()})
    with pytest.raises(
        InputError, match=r'has no column "embeding" \(--data-key\); did you mean "embedding"\?'
    ):
        read_manifest(Target(str(path), data_key="embeding"))


def test_read__objects_are_never_loaded(tmp_path: Path) -> None:
    mixed = np.array([[1.0, 2.0], [3.0]], dtype=object)
    np.save(tmp_path / "v.npy", mixed, allow_pickle=True)
    np.savez(tmp_path / "v.npz", embeddings=mixed)
    np.savez(tmp_path / "ids.npz", embeddings=ROWS, ids=np.array(["a", 1] * 25, dtype=object))
    for name in ("v.npy", "v.npz", "ids.npz"):
        with pytest.raises(
            InputError,
            match=rf"{name} contains Python objects, which are not loaded for safety; save one array",
        ):
            opened(tmp_path / name)


def test_read__no_pickle_runs(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return (Path(tmp_path / "sprung").touch, ())

    (tmp_path / "v.npy").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"v\.npy contains Python objects"):
        opened(tmp_path / "v.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"has shape \(5,\); vectors must have shape \(rows, columns\)"),
        (np.zeros((2, 3, 4)), r"has shape \(2, 3, 4\); vectors must have shape \(rows, columns\)"),
        (np.array([["a"]]), "holds <U1 values, not numbers"),
        (np.zeros((0, 4)), "has no rows"),
        (np.zeros((4, 0)), "have no columns"),
        (
            np.full((3, 2), np.nan),
            r"none of the 3 rows of .* can be used \(row 0: it has NaN or infinity in it\)",
        ),
    ],
)
def test_npy__that_holds_no_vectors(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(saved(tmp_path, array)).read(tmp_path / "copy.npy")


def test_read__file_that_breaks_off(tmp_path: Path) -> None:
    path = saved(tmp_path, ROWS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"v\.npy cannot be read"):
        opened(path)
    (tmp_path / "w.npz").write_bytes(b"PK not really")
    with pytest.raises(InputError, match=r"w\.npz cannot be read"):
        opened(tmp_path / "w.npz")


def test_read__a_large_file_stays_on_the_disk(tmp_path: Path) -> None:
    import tracemalloc

    rows = np.lib.format.open_memmap(tmp_path / "v.npy", mode="w+", dtype=np.float32, shape=(400_000, 128))
    rows[::1000, 0] = 1
    rows[5] = np.nan  # so that it has to be copied
    rows.flush()
    tracemalloc.start()
    found = opened(tmp_path / "v.npy").read(tmp_path / "copy.npy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.pool) == 399_999
    assert peak < 100 << 20  # the rows are 205 MB


def bomb(folder: Path, name: str, shape: tuple[int, ...], dtype: str, megabytes: int) -> Path:
    """An archive of zeros, a thousandth of what it unpacks to, beside proper vectors."""
    path = folder / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
            stream.write(header.getvalue())
            for _ in range(megabytes):
                stream.write(bytes(1 << 20))
        if name != "embeddings":
            with archive.open("embeddings.npy", "w") as stream:
                np.save(stream, ROWS)
    assert path.stat().st_size < (megabytes << 20) / 100
    return path


def test_npz__ids_that_would_fill_the_memory_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usl_backend.sources.vector_sizes.COLUMN_BYTES", 16 << 20)
    path = bomb(tmp_path, "ids", (50,), "<U87381", 17)
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(InputError, match=r'"ids" of .*bomb\.npz takes 17\.0 MiB unpacked'):
        opened(path)


def test_npz__a_row_is_no_longer_than_a_vector(tmp_path: Path) -> None:
    path = bomb(tmp_path, "embeddings", (1, 17 << 20), "<f4", 68)
    with pytest.raises(InputError, match=r"a row of .* takes 68\.0 MiB; at most 64\.0 MiB can be a vector"):
        opened(path)


def test_npz__that_holds_less_than_it_promises(tmp_path: Path) -> None:
    path = bomb(tmp_path, "embeddings", (1 << 40, 4), "<f4", 2)
    with pytest.raises(InputError, match=r'"embeddings" of .* is truncated: its header promises 17,592,'):
        opened(path)


def test_read__a_copy_that_has_no_room_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "v.npz", ROWS)
    usage = shutil.disk_usage(tmp_path)._replace(free=1399)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"take 0\.0 MiB unpacked, but .* has 0\.0 MiB left; free space"):
        opened(tmp_path / "v.npz").read(tmp_path / "copy.npy")
    assert list(tmp_path.glob("*copy*")) == []
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1400))
    assert opened(tmp_path / "v.npz").read(tmp_path / "copy.npy").pool.embeddings.shape == (50, 7)


def test_parquet__columns_are_measured_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"{row:06d}" * 300 for row in range(50)]
    path = parquet(tmp_path, {"embedding": ROWS.tolist(), "id": keys})
    monkeypatch.setattr("usl_backend.sources.vector_sizes.COLUMN_BYTES", 50_000)
    with pytest.raises(InputError, match=r'"id" of .* unpacked; ids and labels may take'):
        opened(path)
    monkeypatch.undo()
    monkeypatch.setattr("usl_backend.sources.vector_sizes.ROW_BYTES", 20)
    with pytest.raises(InputError, match="can be a vector"):
        opened(path)

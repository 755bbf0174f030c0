import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usl_backend.embedding.lookup import Lookup
from usl_backend.errors import EncoderError
from usl_backend.instances import Instance


def look_up(encoder: str, instances: list[Instance], directory: Path):
    seen: list[tuple[str, int, int]] = []
    lookup = Lookup(encoder, directory=directory)
    (directory / "run").mkdir(exist_ok=True)
    pool, hashes = lookup.embed(
        instances, directory=directory / "run", progress=lambda *told: seen.append(told), workers=3
    )
    assert seen[-1] == ("looking vectors up", len(instances), len(instances))
    assert [path.name for path in (directory / "run").iterdir()] == ["embeddings.npy"]
    assert len(hashes) == len(pool)
    return pool, hashes


def tasks(*ids: int, key: str = "") -> list[Instance]:
    return [Instance(one, "image", f"{one}.png", key=key) for one in ids]


ROWS = np.array([[3.0, 4.0], [0.0, 2.0], [np.nan, 1.0], [0.0, 0.0], [1.0, 0.0], [5.0, 0.0]], dtype=np.float32)


def test_precomputed__by_task_id_with_every_fault_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", embeddings=ROWS, ids=np.array([11, 12, 13, 14, 15, 15]))
    pool, hashes = look_up("precomputed:rows.npz", tasks(14, 12, 11, 13, 15, 99), tmp_path)
    assert pool.ids.tolist() == [11, 12]
    np.testing.assert_allclose(pool.embeddings, [[0.6, 0.8], [0.0, 1.0]], atol=1e-7)
    assert pool.skipped.keys() == {13, 14, 15, 99}
    assert "NaN" in pool.skipped[13]
    assert pool.skipped[14] == "its vector is all zeros"
    assert "cannot be used" in pool.skipped[15]
    assert pool.skipped[99] == "rows.npz has no vector for '99'"
    assert len(set(hashes)) == 2


def test_precomputed__by_a_field_of_the_data(tmp_path: Path) -> None:
    table = pa.table({"id": ["a.png", "b.png"], "embedding": [[1.0, 0.0], [0.0, 1.0]]})
    pq.write_table(table, tmp_path / "rows.parquet")
    instances = [*tasks(1, key="b.png"), *tasks(2, key="c.png")]
    pool, _ = look_up("precomputed:rows.parquet@name", instances, tmp_path)
    np.testing.assert_array_equal(pool.embeddings, [[0.0, 1.0]])
    assert pool.skipped == {2: "rows.parquet has no vector for 'c.png'"}


def test_precomputed__rows_without_ids_by_their_number_only(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS[:2])
    pool, _ = look_up("precomputed:rows.npy@row", [*tasks(7, key="1"), *tasks(8, key="2")], tmp_path)
    np.testing.assert_array_equal(pool.embeddings, [[0.0, 1.0]])
    assert pool.skipped == {8: "rows.npy has no vector for '2'"}
    with pytest.raises(EncoderError, match=r"has no ids; save \.npz with an array `ids`"):
        look_up("precomputed:rows.npy", tasks(1), tmp_path)


def test_precomputed__unreadable_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "noise.npz").write_bytes(b"no archive")
    with pytest.raises(EncoderError, match=r"encoder precomputed:noise.npz: .*noise.npz"):
        look_up("precomputed:noise.npz", tasks(1), tmp_path)
    with pytest.raises(EncoderError, match=r'needs the file "none\.npz"'):
        Lookup("precomputed:none.npz", directory=tmp_path)
    pq.write_table(pa.table({"id": [1], "other": ["x"]}), tmp_path / "columns.parquet")
    with pytest.raises(EncoderError, match=r"columns\.parquet"):
        look_up("precomputed:columns.parquet", tasks(1), tmp_path)


def test_precomputed__key_is_the_content_s(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS[:2])
    first = Lookup("precomputed:rows.npy@row", directory=tmp_path).key
    np.save(tmp_path / "rows.npy", ROWS[1:2])
    assert Lookup("precomputed:rows.npy@row", directory=tmp_path).key != first


def test_field__vectors_in_the_data(tmp_path: Path) -> None:
    keys = {
        1: [3, 4],
        2: "words",
        3: [1, 2, 3],
        4: [0, 0],
        5: ["a"],
        6: [0.0, -2.0],
        7: [[1, 2]],
        8: [],
        9: {"a": 1},
    }
    instances = [Instance(task, "text", "t", key=json.dumps(value)) for task, value in keys.items()]
    instances.append(Instance(10, "text", "t", key="[NaN, 1]"))
    pool, _ = look_up("field:vector", instances, tmp_path)
    assert pool.ids.tolist() == [1, 6]
    np.testing.assert_allclose(pool.embeddings, [[0.6, 0.8], [0.0, -1.0]], atol=1e-7)
    assert pool.skipped[3] == "its vector has 3 numbers, most have 2"
    assert pool.skipped[4] == "its vector is all zeros"
    assert pool.skipped[10] == "it has NaN or infinity in it"
    assert {pool.skipped[task] for task in (2, 5, 7, 8, 9)} == {"its vector is not a list of numbers"}


def test_field__nothing_usable(tmp_path: Path) -> None:
    pool, hashes = look_up("field:vector", tasks(1, key="no"), tmp_path)
    assert (len(pool), hashes, set(pool.skipped)) == (0, [], {1})

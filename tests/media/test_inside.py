"""Pictures that are values of a Parquet file, read in and out of order and under the reader's guards."""

import pickle
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from usl_backend.errors import MediaError
from usl_backend.media import Location, MediaLimits, MediaReader, inside, inside_address, is_inside

VALUES = [bytes([0x89, row % 251]) * (row % 7 + 1) for row in range(300)]


def file_of(folder: Path, values: Sequence[Any], *, rows: int = 1_000, name: str = "m.parquet") -> Path:
    path = folder / name
    pq.write_table(pa.table({"image": values}), path, row_group_size=rows)
    return path


def address(path: Path, row: int) -> Location:
    return Location(url=inside_address(str(path), column="image", row=row))


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[MediaReader]:
    with MediaReader(local_roots=[tmp_path], object_stores=True) as reader:
        yield reader


@pytest.mark.parametrize("rows", [1_000, 70, 1])
@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_read__every_row_in_any_order(
    tmp_path: Path, reader: MediaReader, rows: int, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "_MOST", 16)  # several batches in a group, and fewer kept than there are
    path = file_of(tmp_path, [{"bytes": value, "path": None} for value in VALUES], rows=rows)
    wanted = list(range(len(VALUES)))
    if order == "descending":
        wanted = wanted[::-10]
    elif order == "random":
        wanted = random.Random(0).sample(wanted, 40)
    assert [reader.read(address(path, row)) for row in wanted] == [VALUES[row] for row in wanted]


def test_read__from_several_threads_and_after_a_close(tmp_path: Path, reader: MediaReader) -> None:
    path, other = file_of(tmp_path, VALUES), file_of(tmp_path, VALUES[::-1], name="n.parquet")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda row: reader.read(address(path, row)), range(len(VALUES))))
    assert found == VALUES
    assert reader.read(address(other, 3)) == VALUES[-4]
    reader.close()
    assert reader.read(address(path, 3)) == VALUES[3]


def test_read__rows_in_order_read_each_batch_once(
    tmp_path: Path, reader: MediaReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    original = inside.ParquetPictures._batches
    monkeypatch.setattr(
        inside.ParquetPictures,
        "_batches",
        staticmethod(
            lambda reading, group, first: (started.append(group), original(reading, group, first))[1]
        ),
    )
    path = file_of(tmp_path, VALUES, rows=50)
    for row in range(len(VALUES)):
        reader.read(address(path, row))
    assert started == [0]


@pytest.mark.parametrize(
    ("row", "message"),
    [(0, 'row 0 has no bytes in "image"'), (1, "6 bytes are more than the limit of 5"), (9, "has no row 9")],
)
def test_read__what_is_not_there_or_too_large(tmp_path: Path, row: int, message: str) -> None:
    path = file_of(tmp_path, [None, b"\x89" * 6])
    limits = MediaLimits(bytes=5)
    small = MediaReader(local_roots=[tmp_path], object_stores=True, limits=limits)
    with small, pytest.raises(MediaError, match=message):
        small.read(address(path, row))


def test_read__only_below_a_root_and_not_for_a_project(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = file_of(tmp_path, VALUES)
    with pytest.raises(MediaError, match="outside the allowed local roots"):
        MediaReader(local_roots=[tmp_path / "in"], object_stores=True).read(address(path, 0))
    (tmp_path / "in" / "link.parquet").symlink_to(path)
    with pytest.raises(MediaError, match="outside the allowed local roots"):
        MediaReader(local_roots=[tmp_path / "in"], object_stores=True).read(
            address(tmp_path / "in" / "link.parquet", 0)
        )
    with pytest.raises(MediaError, match="parquet"):
        MediaReader(local_roots=[tmp_path]).read(address(path, 0))
    # the copy of a remote table is a root by itself: nothing beside it may be read
    with MediaReader(local_roots=[path], object_stores=True) as alone:
        assert alone.read(address(path, 5)) == VALUES[5]
        with pytest.raises(MediaError, match="outside the allowed local roots"):
            alone.read(address(file_of(tmp_path, VALUES, name="n.parquet"), 0))


def test_read__no_parquet(tmp_path: Path, reader: MediaReader) -> None:
    path = tmp_path / "m.parquet"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(MediaError, match="the Parquet file cannot be read"):
        reader.read(address(path, 0))


def test_inside_address__odd_names(tmp_path: Path, reader: MediaReader) -> None:
    folder = tmp_path / "a#b?c%20 \udce9"
    folder.mkdir()
    path = file_of(tmp_path, VALUES).rename(folder / "m.parquet")
    found = inside_address(str(path), column="image", row=7, name="x/y?.png")
    assert is_inside(found)
    assert not is_inside("/data/parquet:/x")
    assert reader.read(Location(url=found)) == VALUES[7]
    with pickle.loads(pickle.dumps(reader)) as other:
        assert other.read(Location(url=found)) == VALUES[7]

import hashlib
from pathlib import Path

import numpy as np
import pytest

from usl_backend.embedding.shards import ShardDescription, Shards

KEYS = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
TRAITS = np.array([[0, 1, 2, np.nan], [np.nan] * 4, [np.inf, -0.5, 3, 4]], dtype=np.float16)


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    return Shards(tmp_path, encoder_key="encoder-1", dim=2)


def test_write__a_shard_reads_as_it_was_written(shards: Shards, tmp_path: Path) -> None:
    assert [shards.write(KEYS, ROWS, TRAITS), shards.write(KEYS[:1], ROWS[:1], TRAITS[:1])] == [0, 1]
    assert shards.numbers() == {0, 1}
    sha256 = hashlib.sha256((tmp_path / "0.npy").read_bytes()).hexdigest()
    assert shards.contents(0) == ShardDescription(KEYS, sha256)
    np.testing.assert_array_equal(shards.rows(0), ROWS)
    np.testing.assert_array_equal(shards.contents(0).traits, TRAITS)
    assert shards.is_sound(0, sha256=sha256, count=3)


def test_write__a_number_is_never_given_twice(shards: Shards, tmp_path: Path) -> None:
    (tmp_path / "4.npy.damaged").touch()
    assert shards.write(KEYS, ROWS, TRAITS) == 5


@pytest.mark.parametrize(("sha256", "count"), [("0" * 64, 3), (None, 2)])
def test_is_sound__a_shard_that_is_not_is_set_aside(
    shards: Shards, tmp_path: Path, sha256, count, caplog
) -> None:
    shards.write(KEYS, ROWS, TRAITS)
    contents = shards.contents(0)
    assert not shards.is_sound(0, sha256=sha256 or contents.sha256, count=count)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.json.damaged", "0.npy.damaged"]
    assert (shards.numbers(), shards.contents(0)) == (set(), None)
    assert "embedding shard encoder-1/0 is damaged" in caplog.text


def test_contents__of_another_encoder_are_set_aside(shards: Shards, tmp_path: Path) -> None:
    Shards(tmp_path, encoder_key="encoder-2", dim=2).write(KEYS, ROWS, TRAITS)
    assert shards.contents(0) is None
    assert (tmp_path / "0.json.damaged").exists()

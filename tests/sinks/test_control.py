import numpy as np
import pytest

from usl_backend.errors import InputError
from usl_backend.sinks.control import control_rows


def test_control_rows__distinct_rows_of_those_allowed() -> None:
    free = np.arange(3, 90, 2)
    found = control_rows(free, 20, seed=5)
    assert len(set(found.tolist())) == 20
    assert set(found.tolist()) <= set(free.tolist())
    assert control_rows(free, len(free), seed=5).tolist() != free.tolist()
    assert sorted(control_rows(free, len(free), seed=5).tolist()) == free.tolist()


def test_control_rows__repeats_for_a_seed_and_differs_between_seeds() -> None:
    free = np.arange(1000)
    assert np.array_equal(control_rows(free, 30, seed=7), control_rows(free, 30, seed=7))
    assert not np.array_equal(control_rows(free, 30, seed=7), control_rows(free, 30, seed=8))


def test_control_rows__every_row_is_as_likely() -> None:
    free = np.arange(10)
    counts = np.bincount(np.concatenate([control_rows(free, 3, seed=seed) for seed in range(3000)]))
    # chi squared with 9 degrees of freedom stays below 27.9 in 999 of 1000 draws of a fair lot
    assert ((counts - 900.0) ** 2 / 900.0).sum() < 27.9


def test_control_rows__none_asked_for() -> None:
    assert control_rows(np.arange(4), 0, seed=0).tolist() == []


def test_control_rows__more_than_there_are() -> None:
    with pytest.raises(
        InputError, match="control is 5 but only 4 tasks can be drawn; lower control to 4 or less"
    ):
        control_rows(np.arange(4), 5, seed=0)

import numpy as np
import pytest

from usl_backend.errors import InputError
from usl_backend.instances import Queue
from usl_backend.sinks.control import control_rows, counted, further_rows


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


def test_further_rows__with_those_drawn_at_the_run_every_set_of_rows_is_as_likely() -> None:
    pool = np.arange(6)
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(6000):
        first = control_rows(pool, 2, seed=seed)
        more = further_rows(np.setdiff1d(pool, first), 1, n=6, seed=seed)
        union = tuple(sorted([*first.tolist(), *more.tolist()]))
        counts[union] = counts.get(union, 0) + 1
    # 20 sets of three; chi squared with 19 degrees of freedom stays below 43.8 in 999 of 1000 draws
    assert len(counts) == 20
    assert sum((count - 300.0) ** 2 / 300.0 for count in counts.values()) < 43.8


def test_further_rows__a_smaller_draw_is_a_prefix_also_when_rows_have_gone() -> None:
    free = np.arange(5, 90)
    large = further_rows(free, 30, n=100, seed=4).tolist()
    assert further_rows(free, 12, n=100, seed=4).tolist() == large[:12]
    left = np.array([row for row in free.tolist() if row != large[3]])
    assert further_rows(left, 12, n=100, seed=4).tolist() == [*large[:3], *large[4:13]]
    assert further_rows(free, 30, n=100, seed=5).tolist() != large
    assert further_rows(free, 0, n=100, seed=4).tolist() == []


QUEUE = Queue.of(range(10), control=[1, 2, 3, 4, *range(20, 36)])
"""Four of the twenty drawn tasks are picks."""


def test_counted__a_control_set_labeled_in_full_counts_with_its_picks() -> None:
    found = counted(QUEUE, set(range(50)), seed=3)
    assert sorted(found) == sorted(QUEUE.control_set)
    assert set(found[:4]) == {1, 2, 3, 4}


def test_counted__drawn_picks_count_in_the_share_that_the_others_have_reached() -> None:
    for reached, picks in ((0, 0), (4, 1), (8, 2), (12, 3), (16, 4)):
        found = counted(QUEUE, {*range(10), *range(20, 20 + reached)}, seed=3)
        assert len(found) == picks + reached
        assert set(found[picks:]) == set(range(20, 20 + reached))
    # which of them is drawn by lot
    firsts = {counted(QUEUE, {*range(10), *range(20, 24)}, seed=seed)[0] for seed in range(40)}
    assert firsts == {1, 2, 3, 4}


def test_counted__unlabeled_picks_do_not_count() -> None:
    assert set(counted(QUEUE, {2, *range(20, 36)}, seed=0)) == {2, *range(20, 36)}
    assert counted(Queue.of([1, 2], control=[2, 1]), {1, 2}, seed=0) in ((1, 2), (2, 1))
    assert counted(Queue.of([1, 2]), {1, 2}, seed=0) == ()

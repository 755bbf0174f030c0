import numpy as np
import pytest

from usl_backend.report.gallery import MEMBERS, Copies, lowest_rows, near_duplicates, neighborhoods
from usl_backend.selection import USL, nearest_neighbors
from usl_backend.selection.base import Selection


def line(
    places: list[float],
    *,
    picks: list[int],
    cluster: list[int],
    score: list[float] | None = None,
    **parameters: float,
) -> tuple[np.ndarray, Selection]:
    """Rows on a line."""
    return np.array(places)[:, None], Selection(
        indices=np.array(picks),
        gain=np.ones(len(picks)),
        score=None if score is None else np.array(score, dtype=np.float32),
        cluster=np.array(cluster, dtype=np.int32),
        parameters=parameters,
    )


def test_neighborhoods__runner_up_is_nearest_to_the_mean() -> None:
    # mean of the cluster 0, 1, 2, 9 is 3
    rows, selection = line([0, 1, 2, 9, 50], picks=[1, 4], cluster=[0, 0, 0, 0, 1], centrality_weight=1.0)
    first, second = neighborhoods(rows, selection)
    assert (first.runner_up, first.members) == (2, (0, 3))
    assert (second.runner_up, second.members) == (None, ())


def test_neighborhoods__runner_up_has_the_highest_score_where_density_decides() -> None:
    rows, selection = line(
        [0, 1, 2, 9],
        picks=[1],
        cluster=[0] * 4,
        score=[1, 9, 2, 5],
        density_weight=1.0,
        centrality_weight=0.0,
    )
    assert neighborhoods(rows, selection)[0].runner_up == 3


def test_neighborhoods__near_duplicates_of_the_pick_are_no_runner_up() -> None:
    rows, selection = line([1, 1.01, 3], picks=[0], cluster=[0, 0, 0])
    assert neighborhoods(rows, selection)[0].runner_up == 2
    rows, selection = line([1, 1.01, 1.02], picks=[0], cluster=[0, 0, 0])
    assert neighborhoods(rows, selection)[0].runner_up is None


def test_neighborhoods__members_run_from_the_nearest_to_the_farthest() -> None:
    rows, selection = line(list(range(30)), picks=[0], cluster=[0] * 30)
    (found,) = neighborhoods(rows, selection)
    assert len(found.members) == MEMBERS
    assert list(found.members) == sorted(found.members)
    assert (found.members[0], found.members[-1]) == (1, 29)
    assert found.runner_up not in found.members
    assert 0 not in found.members


def test_lowest_rows__lowest_first_and_ties_by_row() -> None:
    assert lowest_rows(np.array([2.0, 0.0, 1.0, 0.0]), count=3).tolist() == [1, 3, 2]
    assert lowest_rows(np.array([2.0, 0.0]), count=9).tolist() == [1, 0]


def test_neighborhoods__barred_rows_are_no_runner_up() -> None:
    rows, selection = line([0, 1, 2, 9, 50], picks=[1, 4], cluster=[0, 0, 0, 0, 1], centrality_weight=1.0)
    assert neighborhoods(rows, selection, barred=np.array([2]))[0].runner_up == 0
    first = neighborhoods(rows, selection, barred=np.array([0, 2, 3]))[0]
    assert (first.runner_up, first.members) == (None, (0, 2, 3))


def test_near_duplicates__those_that_the_method_merged_with_the_number_of_all() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1_300, 8)).astype(np.float32)
    rows = np.concatenate([rows, rows[:1_200], rows[:1]])
    told = USL().select(rows, 10, rng=0).diagnostics
    found = near_duplicates(told, rows, neighbors=None)
    assert (found.count, found.repeats, found.merged) == (1_200, 1_201, True)
    assert len(found.groups) == 1_000
    assert sorted(found.groups[0]) == [0, 1_300, 2_500]


@pytest.mark.parametrize("searched", [True, False])
def test_near_duplicates__found_by_a_search_where_the_method_merged_none(searched: bool) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    rows[[7, 21]] = rows[3]
    near = nearest_neighbors(rows, k=5) if searched else None
    assert near_duplicates({}, rows, neighbors=near) == Copies([[3, 7, 21]], 1, 2, merged=False)


def test_near_duplicates__of_a_pool_with_fewer_kinds_than_picks() -> None:
    rows = np.ones((50, 8), np.float32)
    selection = USL().select(rows, 5, rng=0)
    found = near_duplicates(selection.diagnostics, rows, neighbors=USL().search(rows))
    assert found == Copies([list(range(50))], 1, 49, merged=False)


def test_near_duplicates__of_a_single_row() -> None:
    assert near_duplicates({}, np.zeros((1, 3), np.float32), neighbors=None) == Copies([], 0, 0, merged=False)

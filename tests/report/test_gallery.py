import numpy as np

from usl_backend.report.gallery import MEMBERS, duplicate_groups, lowest_rows, neighborhoods
from usl_backend.selection import nearest_neighbors
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


def test_duplicate_groups__those_of_the_method_come_first() -> None:
    assert duplicate_groups({"near_duplicates": [[3, 4]]}, None, np.zeros(9)) == [[3, 4]]


def test_duplicate_groups__found_by_neighbors_otherwise() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    rows[[7, 21]] = rows[3]
    score = np.zeros(40)
    score[21] = 1.0
    assert duplicate_groups({}, nearest_neighbors(rows, k=5), score) == [[21, 3, 7]]


def test_duplicate_groups__none_where_nothing_is_known() -> None:
    assert duplicate_groups({}, None, np.zeros(3)) == []

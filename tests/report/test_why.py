import numpy as np
import pytest

from usl_backend.report import why as module
from usl_backend.report.why import explain, nearest_others, percentiles
from usl_backend.selection.base import Selection


def test_percentiles__share_of_lower_scores_with_ties() -> None:
    score = np.array([3.0, 1.0, 3.0, 2.0])
    assert percentiles(score).tolist() == [
        100.0 * sum(other < value for other in score) / 4 for value in score
    ]
    assert percentiles(score).tolist() == [50.0, 0.0, 50.0, 25.0]


def test_nearest_others__brute_force_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 4)
    picks = np.random.default_rng(2).normal(size=(11, 3))
    nearest, distance = nearest_others(picks)
    for row in range(11):
        apart = [np.inf if other == row else np.linalg.norm(picks[row] - picks[other]) for other in range(11)]
        assert nearest[row] == int(np.argmin(apart))
        assert distance[row] == pytest.approx(min(apart))


def selection(indices: list[int], cluster: list[int]) -> Selection:
    return Selection(
        indices=np.array(indices),
        gain=np.arange(len(indices), 0, -1.0),
        score=None,
        cluster=np.array(cluster, dtype=np.int32),
    )


def test_explain__every_figure_of_a_small_pool() -> None:
    rows = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [5.0, 3.0]])
    found = explain(
        np.array([10, 20, 30, 40]),
        rows,
        selection([2, 0], [1, 1, 0, 0]),
        percentile=np.array([0.0, 25.0, 50.0, 75.0]),
        coverage=np.array([0.5, 0.75]),
    )
    first, second = found
    assert (first.rank, first.task, first.size, first.share) == (0, 30, 2, 0.5)
    assert (first.density_percentile, first.covered, first.coverage) == (50.0, 0.5, 0.5)
    assert (first.nearest_rank, first.nearest_task, first.distance) == (1, 10, 5.0)
    assert (second.gain, second.covered, second.coverage) == (1.0, 0.25, 0.75)


def test_explain__a_single_pick_has_no_other() -> None:
    (only,) = explain(
        np.array([10, 20]),
        np.eye(2),
        selection([1], [0, 0]),
        percentile=np.array([0.0, 50.0]),
        coverage=np.array([0.5]),
    )
    assert (only.nearest_rank, only.nearest_task, only.distance) == (None, None, None)


def test_explain__what_labels_cover_is_no_pick_of_ours() -> None:
    (only,) = explain(
        np.array([10, 20]),
        np.eye(2),
        selection([1], [0, 0]),
        percentile=np.zeros(2),
        coverage=np.array([0.75]),
        before=0.5,
    )
    assert only.covered == 0.25

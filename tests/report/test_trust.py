from dataclasses import replace

import numpy as np
import pytest

from usl_backend.evaluation.reach import Reach, coverage_curve
from usl_backend.report.again import Again
from usl_backend.report.gallery import Copies
from usl_backend.report.trust import SECONDS, effective_number, stability, trust, verdict
from usl_backend.selection.base import Selection
from usl_backend.settings import RunSettings


def reach_of(picks: list[float], random: list[list[float]]) -> Reach:
    return Reach(4.0, np.array(picks), np.array(random), before=0.0, every=1, evaluated=100)


@pytest.mark.parametrize(
    ("final", "expected"),
    [(0.60, "clear"), (0.545, "small"), (0.51, "small"), (0.5, "none"), (0.4, "none")],
)
def test_verdict__clear_small_or_none(final: float, expected: str) -> None:
    random = [[value] for value in np.linspace(0.45, 0.55, 21)]
    assert verdict(reach_of([final], random)) == expected


def test_verdict__a_tiny_gain_is_small_however_steady() -> None:
    assert verdict(reach_of([0.515], [[0.5]] * 20)) == "small"


def test_verdict__shares_that_differ_by_rounding_are_equal() -> None:
    random = [[2 / 3]] * 20
    assert float(2 / 3 - np.mean(random)) > 0.0, "an example where the mean is rounded"
    assert verdict(reach_of([2 / 3], random)) == "none"


def test_effective_number__equal_uneven_and_one() -> None:
    assert effective_number(np.array([5, 5, 5, 5])) == pytest.approx(4.0)
    assert effective_number(np.array([9, 0, 0])) == pytest.approx(1.0)
    share = np.array([0.7, 0.2, 0.1])
    assert effective_number(np.array([7, 2, 1])) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def selection_of(indices: list[int], cluster: list[int]) -> Selection:
    return Selection(
        indices=np.array(indices),
        gain=np.ones(len(indices)),
        score=None,
        cluster=np.array(cluster, dtype=np.int32),
    )


def test_trust__figures_of_a_small_run() -> None:
    found = trust(
        selection_of([0, 5], [0, 0, 0, 0, 0, 1, 1, 1]),
        reach_of([0.5, 0.8], [[0.2, 0.4], [0.3, 0.5]]),
        n=8,
        copies=Copies([[0, 1, 2]], 1, 2, merged=True),
        stability=None,
        stability_note="too large",
    )
    assert (found.random_mean, found.picks) == ((0.25, 0.45), (0.5, 0.8))
    assert found.matched == 1
    assert found.radius == 2.0
    assert (found.random_low[1], found.random_high[1]) == (0.405, 0.495)
    assert (found.near_duplicate_share, found.largest_share, found.smallest_size) == (0.25, 5 / 8, 3)
    assert (found.draws, found.stability_note) == (2, "too large")


def test_trust__never_matching_random_is_said() -> None:
    found = trust(
        selection_of([0], [0]),
        reach_of([0.1], [[0.4]]),
        n=1,
        copies=Copies([], 0, 0, merged=False),
        stability=None,
        stability_note=None,
    )
    assert (found.matched, found.verdict) == (None, "none")


def others(rows: list[int], own: Selection | None, answers: dict[int, Selection]) -> Again:
    """Selections that are known beforehand."""

    class Known(Again):
        def choose(self, number: int) -> Selection:
            return answers[number]

    none = np.empty(0, dtype=np.int64)
    budget = len(answers[1].indices)
    where = np.array(rows)
    return Known(
        RunSettings(),
        np.zeros((len(rows), 1)),
        where,
        none,
        none,
        none,
        none,
        budget=budget,
        neighbors=None,
        own=own,
    )


def reach_of_line() -> Reach:
    return Reach(1.0, np.array([0.2, 0.5]), np.zeros((1, 2)), before=0.0, every=1, evaluated=8)


def test_stability__counts_same_tasks_and_clusters() -> None:
    rows = np.arange(8.0)[:, None]
    own = selection_of([0, 4], [0, 0, 0, 0, 1, 1, 1, 1])
    answers = {1: selection_of([0, 5], [0] * 8), 2: selection_of([1, 2], [0] * 8)}
    found = stability(
        others(list(range(8)), own, answers),
        rows=rows,
        reach=reach_of_line(),
        seeds=2,
        rng=np.random.default_rng(0),
    )
    assert (found.seeds, found.tasks) == (2, None)
    assert found.same_tasks == (1 / 2 + 0) / 2
    assert found.same_clusters == (2 / 2 + 1 / 2) / 2
    finals = [0.5, *(coverage_curve(rows, rows[picks], radius=1.0)[-1] for picks in ([0, 5], [1, 2]))]
    assert (found.coverage_low, found.coverage_high) == (min(finals), max(finals))
    assert 0.5 <= found.same_clusters_random <= 1.0


def test_stability__of_a_part_compares_selections_from_it_and_covers_the_pool() -> None:
    rows = np.arange(8.0)[:, None]
    # chosen from rows 0, 2, 4, 6: positions 0 and 2 are rows 0 and 4
    answers = {0: selection_of([0, 2], [0, 0, 1, 1]), 1: selection_of([0, 3], [0, 0, 1, 1])}
    found = stability(
        others([0, 2, 4, 6], None, answers),
        rows=rows,
        reach=reach_of_line(),
        seeds=1,
        rng=np.random.default_rng(0),
    )
    assert (found.tasks, found.same_tasks, found.same_clusters) == (4, 1 / 2, 1.0)
    # rows 0, 1, 3, 4, 5 lie within 1 of rows 0 and 4, and 0, 1, 5, 6, 7 of rows 0 and 6
    assert (found.coverage_low, found.coverage_high) == (5 / 8, 5 / 8)


def test_stability__chance_draws_no_labeled_rows() -> None:
    own = selection_of([0, 3], [0, 0, 0, 1, 1, 1])
    known = others(list(range(6)), own, {1: own})
    found = stability(
        replace(known, held=np.array([1, 2, 4, 5])),
        rows=np.arange(6.0)[:, None],
        reach=reach_of_line(),
        seeds=1,
        rng=np.random.default_rng(0),
        held=np.array([1, 2, 4, 5]),
    )
    assert found.same_clusters_random == 1.0


def test_stability__stops_after_its_time() -> None:
    ticks = iter([0.0, SECONDS + 1])
    own = selection_of([0], [0, 0, 0, 0])
    found = stability(
        others([0, 1, 2, 3], own, {number: selection_of([number], [0] * 4) for number in (1, 2, 3)}),
        rows=np.arange(4.0)[:, None],
        reach=Reach(1.0, np.array([0.5]), np.zeros((1, 1)), before=0.0, every=1, evaluated=4),
        rng=np.random.default_rng(0),
        clock=lambda: next(ticks),
    )
    assert found.seeds == 1

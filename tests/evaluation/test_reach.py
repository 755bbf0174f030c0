import numpy as np
import pytest

from usl_backend.errors import InputError
from usl_backend.evaluation import reach as module
from usl_backend.evaluation.reach import coverage_curve, covering_radius, nearest_distances, reach
from usl_backend.selection.presets import NEAR_DUPLICATE


def brute_nearest(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Nearest squared distances, one difference at a time."""
    return np.array([min(float(((row - other) ** 2).sum()) for other in others) for row in rows])


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(90, 5))


def test_nearest_distances__brute_force_in_small_blocks(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CELLS", 50)
    assert nearest_distances(rows, rows[:7]) == pytest.approx(brute_nearest(rows, rows[:7]), abs=1e-12)


def test_coverage_curve__brute_force_at_every_prefix(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CELLS", 64)
    picks = rows[[4, 80, 33, 12]]
    expected = [(brute_nearest(rows, picks[:count]) <= 5.0).mean() for count in range(1, 5)]
    assert coverage_curve(rows, picks, radius=5.0).tolist() == expected


def test_coverage_curve__held_rows_cover_from_the_beginning(rows: np.ndarray) -> None:
    held, picks = rows[[50, 51]], rows[[4, 80]]
    expected = [
        (brute_nearest(rows, np.concatenate([held, picks[:count]])) <= 4.0).mean() for count in (1, 2)
    ]
    assert coverage_curve(rows, picks, radius=4.0, held=held).tolist() == expected


def test_reach__radius_is_the_median_of_random_and_covers_half(rows: np.ndarray) -> None:
    found = reach(rows, np.arange(10), rng=np.random.default_rng(0), draws=6)
    rng = np.random.default_rng(0)
    sets = [rng.choice(np.arange(90), 10, replace=False) for _ in range(6)]
    apart = np.array([brute_nearest(rows, rows[chosen]) for chosen in sets])
    assert found.radius == pytest.approx(float(np.median(apart)))
    assert found.random[:, -1].mean() == pytest.approx(0.5, abs=1 / 90)
    assert found.picks.tolist() == coverage_curve(rows, rows[:10], radius=found.radius).tolist()
    assert (found.evaluated, found.every, found.before) == (90, 1, 0.0)


def test_reach__one_row_per_clump_beats_the_mean_of_random() -> None:
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(12, 8)) * 10
    rows = np.repeat(centers, 25, axis=0) + rng.normal(size=(300, 8)) * 0.1
    found = reach(rows, np.arange(0, 300, 25), rng=rng)
    assert found.picks[-1] > found.random[:, -1].mean() + 0.1
    assert (np.diff(found.picks) >= 0).all()


def test_covering_radius__copies_count_only_where_they_are_the_smaller_part() -> None:
    assert covering_radius(np.array([0.0, 0.0, 0.5, 0.7, 0.9])) == 0.5
    assert covering_radius(
        np.array([[0.0, NEAR_DUPLICATE, NEAR_DUPLICATE], [0.5, 0.7, 0.0]])
    ) == pytest.approx(0.6)
    assert covering_radius(np.zeros(5)) == NEAR_DUPLICATE


def test_reach__one_pick_stands_for_the_copies_that_most_of_a_pool_are() -> None:
    rng = np.random.default_rng(1)
    scene = np.eye(1, 64)[0] + rng.normal(size=(600, 64)) * 0.002
    kinds = np.repeat(rng.normal(size=(20, 64)) / 8, 20, axis=0) + rng.normal(size=(400, 64)) * 0.03
    found = reach(np.concatenate([scene, kinds]), np.array([0, *range(600, 1000, 20)]), rng=rng)
    assert found.picks[-1] > 0.9
    assert found.picks[-1] > found.random[:, -1].max()


def test_reach__more_than_half_of_the_rows_are_picked(rows: np.ndarray) -> None:
    found = reach(rows, np.arange(60), rng=np.random.default_rng(0), draws=4)
    # The rows that a draw lacks are half covered by it.
    assert found.random[:, -1].mean() == pytest.approx(60 / 90 + 15 / 90, abs=1 / 90)


def test_reach__held_rows_are_never_drawn(rows: np.ndarray) -> None:
    # with all but twelve rows held, ten random picks cannot differ in more than these twelve
    held = np.arange(78)
    found = reach(rows, np.arange(80, 90), rng=np.random.default_rng(0), held=held, draws=3)
    apart = brute_nearest(rows, rows[held])
    assert found.before == (apart <= found.radius).mean()
    assert found.random.min() >= found.before


def test_reach__counts_on_evenly_spaced_rows(rows: np.ndarray) -> None:
    found = reach(rows, np.arange(5), rng=np.random.default_rng(0), draws=2, evaluated=30)
    assert (found.evaluated, found.every) == (30, 3)
    assert found.picks.tolist() == coverage_curve(rows[::3], rows[:5], radius=found.radius).tolist()


def test_reach__progress_ends_at_the_total(rows: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    reach(rows, np.arange(5), rng=np.random.default_rng(0), draws=2, progress=lambda _, *at: seen.append(at))
    assert seen == [(done, 5) for done in range(1, 6)]


@pytest.mark.parametrize(("picks", "draws"), [(0, 1), (3, 0)])
def test_reach__nothing_to_compare_is_refused(rows: np.ndarray, picks: int, draws: int) -> None:
    with pytest.raises(InputError, match=f"{picks} picks and {draws} draws"):
        reach(rows, np.arange(picks), rng=np.random.default_rng(0), draws=draws)


def test_coverage_curve__copies_of_a_pick_are_within_no_distance() -> None:
    # in float32 the product alone puts copies up to 1e-7 apart
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 128)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    copies = np.repeat(rows, 5, axis=0)
    expected = [5 * count / 200 for count in range(1, 41)]
    assert coverage_curve(copies, rows, radius=0.0).tolist() == expected
    assert (nearest_distances(copies, rows[:20]) == 0.0).sum() == 100

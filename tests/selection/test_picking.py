import numpy as np
import pytest
from oracles import blobs, squared
from threadpoolctl import threadpool_info

from usl_backend.selection import picking
from usl_backend.selection.ordering import order_picks
from usl_backend.selection.picking import cluster_argmax, fill, nearest_projected_pick, pick_rounds
from usl_backend.selection.repulsion import Horizon, Repulsion
from usl_backend.selection.rows.density import density
from usl_backend.selection.rows.duplicates import FEW_COLUMNS, alone, merge, near_rows, same_rows


def test_density__higher_where_neighbors_are_nearer():
    distances = np.array([[1.0, 3.0], [0.5, 0.5], [0.0, 0.0]])
    assert density(distances).tolist() == [0.5, 2.0, np.inf]
    # Floor: a fraction of the median of the positive means, 1.25.
    np.testing.assert_allclose(density(distances, floor=0.1), [0.5, 2.0, 8.0])
    assert np.isfinite(density(np.zeros((4, 2)), floor=0.1)).all()


def literal_repulsion(rows, labels, picks, *, kind, alpha, distance, number, floor):
    result = np.zeros(len(rows))
    clusters = [c for c in range(len(picks)) if picks[c] >= 0]
    for i in range(len(rows)):
        apart = {c: ((rows[i] - rows[picks[c]]) ** 2).sum() for c in clusters}
        near = sorted(clusters, key=apart.get)
        for c in near if kind == "distance" else near[:number]:
            if kind == "distance" and (c == labels[i] or apart[c] >= distance):
                continue
            if kind == "nearest" and apart[c] == 0:
                continue
            if kind == "nearest-other" and c == labels[i]:
                continue
            result[i] += 1.0 / max(apart[c], floor) ** alpha
    return result


@pytest.mark.parametrize("kind", ["distance", "nearest", "nearest-other"])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_repulsion__matches_the_formula_while_picks_change(kind, alpha):
    rows, labels = blobs(150, 6, seed=0)
    picks = np.array([np.flatnonzero(labels == c)[0] for c in range(8)] + [-1])
    options = {"alpha": alpha, "horizon": Horizon(kind, 1.2, 4), "floor": 1e-6}
    one, two = (Repulsion(rows, labels=labels, workers=workers, **options) for workers in (1, 2))
    rng = np.random.default_rng(0)
    for changes in (0, 2, 1, 6, 3, 0, 2):
        for c in rng.choice(8, changes, replace=False):
            picks[c] = rng.choice(np.flatnonzero(labels == c))
        expected = literal_repulsion(
            rows, labels, picks, kind=kind, alpha=alpha, distance=1.2, number=4, floor=1e-6
        )
        found = one.of(picks)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert np.array_equal(found, two.of(picks))


def test_repulsion__a_pick_on_top_of_a_foreign_row_leaves_no_trace():
    rows, labels = blobs(60, 4, seed=1, groups=4)
    rows[labels == 1] = np.concatenate([rows[labels == 0][:1], rows[labels == 1][1:]])
    # The first row of cluster 1 lies a hair from one of cluster 0.
    first = np.flatnonzero(labels == 1)[0]
    rows[first] += 1e-9
    crowd = Repulsion(rows, labels=labels, alpha=1.0, horizon=Horizon("distance", 4.0))
    picks = np.array([np.flatnonzero(labels == c)[-1] for c in range(4)])
    before = crowd.of(picks)
    moved = picks.copy()
    moved[1] = first
    assert crowd.of(moved).max() > 1e12
    np.testing.assert_allclose(crowd.of(picks), before, rtol=1e-12)


def test_repulsion__near_picks_only_come_close_to_all(monkeypatch):
    from usl_backend.selection import repulsion

    rows, _ = blobs(4000, 6, seed=2, groups=40, dtype=np.float32)
    picks = np.arange(400)
    labels = squared(rows, rows[picks]).argmin(1)
    options = {"labels": labels, "alpha": 0.5, "horizon": Horizon("nearest-other", picks=8), "floor": 1e-6}
    monkeypatch.setattr(repulsion, "EXACT_CELLS", 1000)
    monkeypatch.setattr(repulsion, "NEAR_PICKS", 64)
    exact = Repulsion(rows, exact=True, **options).of(picks)
    near = Repulsion(rows, **options).of(picks)
    assert (np.abs(near - exact) < 1e-4 * exact).mean() > 0.95
    assert (near <= exact * 1.0001).all()


def test_cluster_argmax__ties_to_the_lower_row_and_minus_infinity_never():
    utility = np.array([1.0, 2.0, 2.0, -np.inf, 5.0, np.nan])
    labels = np.array([0, 0, 0, 1, 2, 2])
    assert cluster_argmax(utility, labels, clusters=4).tolist() == [1, -1, 4, -1]


def test_pick_rounds__averages_the_repulsion_from_zero_and_never_reads_the_last():
    base = np.array([1.0, 0.9, 1.0])
    labels = np.array([0, 0, 1])
    calls = []

    def force(picks):
        calls.append(picks.tolist())
        return np.array([1.0, 0.0, 0.0])

    options = {
        "clusters": 2,
        "held": np.empty(0, np.int64),
        "weight": 0.5,
        "momentum": 0.5,
        "repulsion": force,
    }
    picks, utility = pick_rounds(base, labels, rounds=3, **options)
    assert picks.tolist() == [1, 2]
    # Two updates of 1 from 0 with momentum .5: .5, then .75.
    np.testing.assert_allclose(utility, base - 0.5 * np.array([0.75, 0, 0]))
    assert calls == [[0, 2], [1, 2]]
    calls.clear()
    pick_rounds(base, labels, rounds=1, **options)
    assert calls == []


def test_fill__takes_the_best_of_the_largest_cluster_and_copies_last():
    utility = np.array([3.0, 2.0, 1.0, 9.0, 0.5])
    labels = np.array([0, 0, 0, 1, 0], dtype=np.int32)
    repeats = np.array([False, True, False, False, False])
    picks, moved, filled = fill(
        np.array([0, 3, -1, -1, -1]), labels, utility, allowed=np.ones(5, dtype=bool), repeats=repeats
    )
    assert picks.tolist() == [0, 3, 2, 4, 1]
    assert filled == 3
    assert moved.tolist() == [0, 4, 2, 1, 3]


def test_same_rows__groups_equal_rows_only():
    rows = np.array([[1, 2], [0.0, 1], [1, 2], [-0.0, 1], [1, 2.0000002]], dtype=np.float32)
    groups = same_rows(rows)
    assert groups.leaders.tolist() == [0, 1, 4]
    assert groups.member_of.tolist() == [0, 1, 0, 1, 2]
    assert groups.sizes.tolist() == [2, 2, 1]
    assert groups.listing() == [[0, 2], [1, 3]]
    led = same_rows(rows, preferred=np.array([2]))
    assert led.leaders[led.member_of].tolist() == [2, 1, 2, 1, 4]
    both = same_rows(rows, preferred=np.array([0, 2]))
    assert {0, 2} <= set(both.leaders.tolist())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_rows__looks_at_all_columns_of_rows_that_share_the_first(dtype):
    rng = np.random.default_rng(0)
    rows = rng.integers(3, size=(400, 20)).astype(dtype)
    rows[:200, :FEW_COLUMNS] = rows[0, :FEW_COLUMNS]
    rows[rng.permutation(400)[:150]] = rows[rng.integers(400, size=150)]
    groups = same_rows(rows)
    first = [int((rows == row).all(axis=1).argmax()) for row in rows]
    assert groups.leaders[groups.member_of].tolist() == first
    assert len(groups.leaders) == len(np.unique(rows, axis=0)) < 400


def test_near_rows__never_chains():
    line = np.arange(10)[:, None] * 1.0
    distances = squared(line, line)
    np.fill_diagonal(distances, np.inf)
    indices = np.argsort(distances, axis=1)
    rank = np.arange(10)[::-1].astype(float)
    groups = near_rows(indices, np.take_along_axis(distances, indices, axis=1), radius=1.0, rank=rank)
    leaders = groups.leaders[groups.member_of]
    assert (np.abs(leaders - np.arange(10)) <= 1).all()
    assert leaders[0] == 0
    assert leaders[1] == 0
    assert len(groups.leaders) == 5


def test_merge__groups_of_groups():
    first = same_rows(np.array([[0.0], [0.0], [1.0], [2.0]]))
    second = same_rows(np.array([[5.0], [7.0], [5.0]]))
    assert merge(first, second).leaders[merge(first, second).member_of].tolist() == [0, 0, 2, 0]
    assert merge(alone(4), alone(4)).sizes.tolist() == [1, 1, 1, 1]


def test_order_picks__keeps_one_pick_per_far_group_first():
    # Two far groups of clusters, in the left one a heavy pair.
    centers = np.array([[0.0, 0], [1, 0], [10, 0], [10, 0.5]])
    weights = np.array([9.0, 8, 5, 4])
    order, gain = order_picks(centers, weights=weights, picks=centers, rng=np.random.default_rng(0))
    assert order.tolist() == [1, 2, 0, 3] or order.tolist() == [0, 2, 1, 3]
    mean = weights @ centers / 26
    np.testing.assert_allclose(gain[0], weights @ ((centers - mean) ** 2).sum(1))
    left, right = weights[:2] @ centers[:2] / 17, weights[2:] @ centers[2:] / 9
    np.testing.assert_allclose(gain[1], 17 * 9 / 26 * ((left - right) ** 2).sum())
    np.testing.assert_allclose(gain[2:], [9 * 8 / 17, 5 * 4 / 9 * 0.25])


@pytest.mark.parametrize("m", [1, 2, 3, 7, 64, 100])
def test_order_picks__is_a_permutation_with_gains(m):
    rows, _ = blobs(m, 5, seed=m)
    order, gain = order_picks(rows, weights=np.ones(m), picks=rows, rng=np.random.default_rng(0))
    assert sorted(order) == list(range(m))
    assert (gain >= 0).all()


def test_order_picks__halves_cover_better_than_chance():
    rows, _ = blobs(80, 6, seed=3, groups=16)
    order, _ = order_picks(rows, weights=np.ones(80), picks=rows, rng=np.random.default_rng(0))
    for size in (10, 20, 40):
        ours = squared(rows, rows[order[:size]]).min(1).sum()
        chance = [
            squared(rows, rows[np.random.default_rng(s).permutation(80)[:size]]).min(1).sum()
            for s in range(50)
        ]
        assert ours < min(chance)


def test_order_picks__copies_of_one_place_have_no_gain():
    order, gain = order_picks(
        np.ones((6, 3)), weights=np.ones(6), picks=np.ones((6, 3)), rng=np.random.default_rng(0)
    )
    assert sorted(order.tolist()) == list(range(6))
    np.testing.assert_allclose(gain, 0, atol=1e-12)


def test_nearest_projected_pick__computes_on_one_thread(monkeypatch):
    """More threads change the last bits, and with them what a tie goes to."""
    rows, _ = blobs(60, 6, seed=2)
    threads = set()
    find = picking.nearest_pick

    def watched(*given):
        threads.update(library["num_threads"] for library in threadpool_info())
        return find(*given)

    monkeypatch.setattr(picking, "nearest_pick", watched)
    picks = np.array([7, 30, 59])
    centred = rows - rows.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.array_equal(nearest_projected_pick(rows, picks), squared(unit, unit[picks]).argmin(1))
    assert threads == {1}

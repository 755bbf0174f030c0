import numpy as np
import pytest
from oracles import blobs, nearest

from usl_backend.errors import SelectionError
from usl_backend.selection import nearest_neighbors
from usl_backend.selection.rows.neighborhood import neighborhood
from usl_backend.selection.rows.neighbors import nearest_of_some

NONE = np.empty(0, dtype=np.int64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("include_self", [False, True])
def test_nearest_neighbors__matches_brute_force(dtype, include_self):
    rows, _ = blobs(300, 12, seed=0, dtype=dtype)
    indices, distances = nearest(rows.astype(np.float64), 9, include_self=include_self)
    found = nearest_neighbors(rows, k=9, include_self=include_self)
    assert found.exact
    assert np.array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("include_self", [False, True])
def test_nearest_neighbors__duplicates_are_exactly_zero_apart_and_self_stays_in_place(include_self):
    base, _ = blobs(40, 6, seed=1, dtype=np.float32)
    rows = np.concatenate([base, np.repeat(base[:1], 60, axis=0)])
    found = nearest_neighbors(rows, k=5, include_self=include_self)
    assert (found.distances[0] == 0).all()
    assert (found.distances[40:] == 0).all()
    own = (found.indices == np.arange(len(rows))[:, None]).sum(axis=1)
    assert (own == int(include_self)).all()
    if include_self:
        assert np.array_equal(found.indices[:, 0], np.arange(len(rows)))


def test_nearest_neighbors__k_is_cut_to_the_pool():
    rows, _ = blobs(5, 3, seed=0, dtype=np.float32)
    assert nearest_neighbors(rows, k=50).indices.shape == (5, 4)
    assert nearest_neighbors(rows, k=50, include_self=True).indices.shape == (5, 5)
    with pytest.raises(SelectionError, match="1 row"):
        nearest_neighbors(rows[:1], k=3)
    with pytest.raises(SelectionError, match="k is 0"):
        nearest_neighbors(rows, k=0)


def test_nearest_neighbors__cells_find_nearly_all_and_never_lie():
    rows, _ = blobs(12_000, 24, seed=2, groups=60, dtype=np.float32)
    exact = nearest_neighbors(rows, k=20, exact=True)
    found = nearest_neighbors(rows, k=20, exact=False)
    assert not found.exact
    assert (found.indices != np.arange(len(rows))[:, None]).all()
    kept = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(found.indices, exact.indices, strict=True)])
    assert kept > 0.95
    # Distances belong to the rows named, ascend, and are never below the true ones.
    some = np.arange(0, 12_000, 37)
    true = ((rows[some, None].astype(np.float64) - rows[found.indices[some]]) ** 2).sum(-1)
    np.testing.assert_allclose(found.distances[some], true, rtol=1e-3, atol=1e-6)
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert (found.distances >= exact.distances - 1e-5).all()


@pytest.mark.parametrize("include_self", [False, True])
def test_nearest_neighbors__what_cells_find_on_one_side_is_known_on_the_other(include_self):
    rows, _ = blobs(12_000, 24, seed=2, groups=60, dtype=np.float32)
    rows[500:510] = rows[499]
    found = nearest_neighbors(rows, k=12, exact=False, include_self=include_self)
    assert not found.exact
    if include_self:
        assert np.array_equal(found.indices[:, 0], np.arange(12_000))
    naming = np.repeat(np.arange(12_000), 12)
    named, apart = found.indices.ravel(), found.distances.ravel()
    # Distances of a pair seen from both sides differ by rounding.
    nearer = apart < found.distances[named, -1] * (1 - 1e-5)
    assert (found.indices[named[nearer]] == naming[nearer, None]).any(axis=1).all()
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert all(len(set(row)) == 12 for row in found.indices.tolist())
    if include_self:
        assert nearest_neighbors(rows, k=1, exact=False, include_self=True).indices.tolist() == [
            [row] for row in range(12_000)
        ]


def test_nearest_neighbors__cells_do_not_depend_on_workers():
    rows, _ = blobs(12_000, 16, seed=3, groups=60, dtype=np.float32)
    one, two = (nearest_neighbors(rows, k=10, exact=False, workers=workers) for workers in (1, 2))
    assert np.array_equal(one.indices, two.indices)
    assert np.array_equal(one.distances, two.distances)
    assert np.array_equal(one.places, two.places)


def test_nearest_neighbors__places_of_cells_are_near_each_other_where_rows_are():
    rows, _ = blobs(12_000, 16, seed=3, groups=60, dtype=np.float32)
    found = nearest_neighbors(rows, k=10, exact=False)
    assert np.array_equal(np.sort(found.places), np.arange(12_000))
    away = np.abs(found.places[found.indices].astype(int) - found.places[:, None])
    assert np.median(away) < 1_000, "a third of the pool where places say nothing"
    assert nearest_neighbors(rows[:500], k=10).places is None


def test_neighborhood__leaders_keep_their_places():
    rows, _ = blobs(6_000, 16, seed=4, groups=60, dtype=np.float32)
    rows[5_000:] = rows[:1_000] + np.float32(1e-3)
    given = nearest_neighbors(rows, k=10, exact=False)
    found = neighborhood(rows, k=7, radius=1e-3, enough=10, held=NONE, given=given)
    assert 4_900 < len(found.leaders) < 5_100
    assert np.array_equal(found.neighbors.places, given.places[found.groups.leaders])


def test_nearest_neighbors__cells_with_self():
    rows, _ = blobs(12_000, 16, seed=3, groups=60, dtype=np.float32)
    found = nearest_neighbors(rows, k=10, exact=False, include_self=True)
    assert np.array_equal(found.indices[:, 0], np.arange(len(rows)))
    assert (found.distances[:, 0] == 0).all()


@pytest.mark.parametrize("include_self", [False, True])
def test_nearest_neighbors__cells_keep_copies_exact_and_in_order(include_self):
    base, _ = blobs(5000, 16, seed=6, groups=20, dtype=np.float32)
    copies = np.random.default_rng(0).permutation(5000)[:500]
    rows = np.concatenate([base, base[copies], np.zeros((3, 16), dtype=np.float32)])
    found = nearest_neighbors(rows, k=4, exact=False, include_self=include_self)
    assert not found.exact
    first = int(include_self)
    for place, row in enumerate(copies.tolist()):
        copy = 5000 + place
        assert (found.indices[row, first], found.indices[copy, first]) == (copy, row)
        assert found.distances[row, first] == found.distances[copy, first] == 0
        if include_self:
            assert (found.indices[row, 0], found.indices[copy, 0]) == (row, copy)
    others = [[row for row in (5500, 5501, 5502) if row != own] for own in (5500, 5501, 5502)]
    assert found.indices[5500:, first : first + 2].tolist() == others, "ties go to the lower row"
    assert (np.diff(found.distances, axis=1) >= 0).all()


def test_nearest_of_some__is_a_part_of_the_whole():
    rows, _ = blobs(200, 8, seed=4, dtype=np.float32)
    whole = nearest_neighbors(rows, k=6)
    part = nearest_of_some(rows, np.array([7, 3, 150]), k=6)
    assert np.array_equal(part.indices, whole.indices[[7, 3, 150]])
    assert np.array_equal(part.distances, whole.distances[[7, 3, 150]])


def test_neighborhood__is_that_of_the_leaders_alone():
    rng = np.random.default_rng(0)
    base, _ = blobs(200, 8, seed=5, dtype=np.float32)
    copies = base[:30] + rng.normal(size=(30, 8)).astype(np.float32) * 1e-3
    rows = np.concatenate([base, copies, np.repeat(base[:1], 80, axis=0)])
    found = neighborhood(rows, k=7, radius=1e-4, enough=10, held=NONE)
    origin = np.concatenate([np.arange(200), np.arange(30), np.zeros(80, dtype=int)])
    assert len(found.groups.leaders) == 200
    assert sorted(origin[found.groups.leaders]) == list(range(200))
    assert np.array_equal(origin[found.groups.leaders][found.groups.member_of], origin)
    indices, distances = nearest(rows[found.groups.leaders].astype(np.float64), 7, include_self=False)
    assert np.array_equal(found.neighbors.indices, indices)
    np.testing.assert_allclose(found.neighbors.distances, distances, rtol=1e-4)
    assert np.array_equal(found.leaders, rows[found.groups.leaders])


def test_neighborhood__in_the_memory_of_the_rows_is_the_same():
    rng = np.random.default_rng(0)
    base, _ = blobs(300, 8, seed=5, dtype=np.float32)
    near = base[:90] + rng.normal(size=(90, 8)).astype(np.float32) * 1e-3
    rows = np.concatenate([base, near, base[:50], near[:20]])
    expected = neighborhood(rows.copy(), k=7, radius=1e-4, enough=10, held=np.array([3, 320]))
    kept = rows.copy()
    neighborhood(kept, k=7, radius=1e-4, enough=10, held=NONE)
    assert np.array_equal(kept, rows), "rows of the caller's are left alone"
    found = neighborhood(kept, k=7, radius=1e-4, enough=10, held=np.array([3, 320]), reuse=True)
    assert np.shares_memory(found.leaders, kept)
    assert len(found.leaders) == 300
    assert np.array_equal(found.leaders, rows[found.groups.leaders])
    assert np.array_equal(found.groups.member_of, expected.groups.member_of)
    assert np.array_equal(found.neighbors.indices, expected.neighbors.indices)
    assert np.array_equal(found.neighbors.distances, expected.neighbors.distances)


def test_neighborhood__keeps_enough_rows_and_labeled_rows():
    rows = np.repeat(np.eye(4, 6, dtype=np.float32), 10, axis=0)
    assert len(neighborhood(rows, k=3, radius=0.01, enough=5, held=NONE).groups.leaders) == 40
    assert len(neighborhood(rows, k=3, radius=-1, enough=1, held=NONE).groups.leaders) == 40
    held = np.array([5, 17])
    groups = neighborhood(rows, k=3, radius=0.01, enough=4, held=held).groups
    assert len(groups.leaders) == 4
    assert set(held) <= set(groups.leaders)
    assert groups.sizes.sum() == 40

import numpy as np
import pytest
from oracles import blobs, nearest

from usl_backend.selection.rows.centrality import Smoothed, smooth, taken


@pytest.mark.parametrize("include_self", [False, True])
def test_smoothed__takes_what_smoothing_all_gives(include_self):
    rows, _ = blobs(2500, 7, seed=0)
    near = np.random.default_rng(1).integers(2500, size=(2500, 5)).astype(np.int32)
    near[:300], _ = nearest(rows[:300], 5, include_self=include_self)
    whole = smooth(rows, near)
    points = Smoothed(rows, near)
    assert len(points) == 2500
    some = np.array([7, 3, 299, 2499, 3])
    assert np.array_equal(points.take(some), whole[some])
    assert np.array_equal(points.take(slice(1000, 2400)), whole[1000:2400])
    assert np.array_equal(Smoothed(rows, near, workers=2).take(slice(0, 2500)), whole)
    placed = Smoothed(rows, near, np.random.default_rng(2).permutation(2500).astype(np.int32))
    assert np.array_equal(placed.take(slice(100, 2500)), whole[100:])
    assert np.array_equal(placed.take(some), whole[some])
    for row in (0, 4, 299):
        total = rows[sorted({row, *near[row].tolist()})].sum(axis=0)
        np.testing.assert_allclose(whole[row], total / np.linalg.norm(total), rtol=1e-12)


def test_taken__leaves_plain_rows_as_they_are():
    rows, _ = blobs(20, 3, seed=0)
    assert np.array_equal(taken(rows, np.array([4, 1])), rows[[4, 1]])
    assert np.shares_memory(taken(rows, slice(2, 9)), rows)

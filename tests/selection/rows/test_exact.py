import numpy as np
import pytest
from oracles import blobs

from usl_backend.selection.rows import exact
from usl_backend.selection.rows.exact import nearest_rows


def brute_force(targets, rows, k):
    distances = ((targets[:, None].astype(np.float64) - rows) ** 2).sum(-1)
    return distances, np.sort(distances, axis=1)[:, :k]


def check(targets, rows, k):
    found = nearest_rows(targets, rows, k)
    assert found.shape == (len(targets), k)
    assert all(len(set(row)) == k for row in found.tolist())
    distances, smallest = brute_force(targets, rows, k)
    np.testing.assert_allclose(
        np.sort(np.take_along_axis(distances, found, axis=1), axis=1), smallest, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("k", [1, 9, 300])
@pytest.mark.parametrize("order", ["any", "nearer and nearer", "farther and farther"])
def test_nearest_rows__over_several_blocks_matches_brute_force(k, order, monkeypatch):
    monkeypatch.setattr(exact, "COMPARED_ROWS", 64)
    monkeypatch.setattr(exact, "ROWS_PER_PLACE", 1)
    rows, _ = blobs(777, 12, seed=0, dtype=np.float32)
    if order != "any":
        apart = np.argsort(((rows - rows[0]) ** 2).sum(1))
        rows = rows[apart if order == "farther and farther" else apart[::-1]]
    check(rows[::13].copy(), rows, k)


def test_nearest_rows__all_of_them():
    rows, _ = blobs(30, 5, seed=1, dtype=np.float32)
    found = nearest_rows(rows[:4], rows, 30)
    assert (np.sort(found, axis=1) == np.arange(30)).all()


def test_nearest_rows__many_targets_and_more_rows_than_are_compared_at_once():
    rows, _ = blobs(2 * exact.COMPARED_ROWS + 5, 4, seed=2, dtype=np.float32)
    check(rows[::29].copy(), rows, 20)


def test_nearest_rows__duplicates_are_each_named_once():
    rows = np.repeat(np.eye(3, 8, dtype=np.float32), 40, axis=0)
    check(rows[::20].copy(), rows, 25)

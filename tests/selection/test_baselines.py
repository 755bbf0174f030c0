import json

import numpy as np
import pytest
from oracles import blobs, squared

from usl_backend.errors import SelectionError
from usl_backend.selection import METHODS, MaxHerding
from usl_backend.selection.greedy import gaussian, greedy_cover
from usl_backend.selection.picking import nearest_pick
from usl_backend.selection.rows.preparation import squared_distances


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("m", [1, 5, 40, 200])
def test_select__every_method_keeps_the_contract(name, m):
    rows, _ = blobs(200, 10, seed=0, dtype=np.float32)
    selection = METHODS[name]().select(rows, m, rng=1)
    assert len(set(selection.indices.tolist())) == m
    assert selection.indices.dtype == np.int64
    assert selection.gain.shape == (m,)
    assert (selection.gain >= 0).all()
    assert np.array_equal(selection.cluster[selection.indices], np.arange(m))
    assert selection.parameters["method"] == name
    json.dumps([dict(selection.parameters), dict(selection.diagnostics)], allow_nan=False)
    again = METHODS[name]().select(rows, m, rng=1)
    assert np.array_equal(selection.indices, again.indices)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_select__every_method_leaves_labeled_rows_alone(name):
    rows, _ = blobs(60, 6, seed=1, dtype=np.float32)
    labeled = np.arange(0, 60, 2)
    selection = METHODS[name]().select(rows, 30, rng=0, labeled=labeled)
    assert sorted(selection.indices) == list(range(1, 60, 2))


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"random"}))
def test_select__score_and_picks_favor_the_groups_over_lone_rows(name):
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 60)
    groups = np.eye(4, 12)[truth] * 3 + rng.normal(size=(240, 12)) * 0.2
    rows = np.concatenate([groups, rng.normal(size=(6, 12)) * 3])
    selection = METHODS[name]().select(rows.astype(np.float32), 4, rng=0)
    assert sorted(truth[selection.indices[selection.indices < 240]]) == [0, 1, 2, 3]
    if selection.score is not None:
        assert np.median(selection.score[:240]) > np.median(selection.score[240:])


def test_select__too_large_a_budget_is_named():
    with pytest.raises(SelectionError, match="budget is 9"):
        METHODS["k-means"]().select(np.eye(8, dtype=np.float32), 9, rng=0)


@pytest.mark.parametrize("held", [[], [3, 40]])
def test_greedy_cover__lazy_picks_are_the_plain_greedy_ones(held):
    rows, _ = blobs(300, 6, seed=3)
    similarity = gaussian(1.0)
    kernel = np.exp(-squared(rows, rows))
    cover = kernel[held].max(0) if held else np.zeros(300)
    expected = []
    for _ in range(25):
        gains = np.maximum(kernel - cover, 0).sum(1)
        gains[held + expected] = -1
        expected.append(int(gains.argmax()))
        cover = np.maximum(cover, kernel[expected[-1]])
    picks, gain = greedy_cover(rows, similarity=similarity, budget=25, held=np.array(held, dtype=np.int64))
    assert picks.tolist() == expected
    assert (np.diff(gain) <= 1e-3).all()


def test_max_herding__width_matters():
    rows, _ = blobs(300, 6, seed=3, dtype=np.float32)
    wide, narrow = (MaxHerding(width=width).select(rows, 10, rng=0).indices for width in (1.0, 0.1))
    assert set(wide) != set(narrow)


def test_nearest_pick__every_row_goes_to_the_nearest():
    rows, _ = blobs(100, 4, seed=6)
    picks = np.array([4, 50, 99])
    assert np.array_equal(nearest_pick(rows, picks), squared(rows, rows[picks]).argmin(1))


def test_squared_distances__equal_rows_are_zero_apart():
    rows, _ = blobs(50, 20, seed=7, dtype=np.float32)
    rows = rows * 100
    found = squared_distances(rows, np.concatenate([rows, rows]))
    assert (found[np.arange(50), np.arange(50)] == 0).all()
    assert (found[np.arange(50), np.arange(50) + 50] == 0).all()
    expected = squared(rows.astype(np.float64), rows.astype(np.float64))
    np.testing.assert_allclose(found[:, :50], expected, rtol=1e-3)

from dataclasses import replace

import numpy as np
import pytest
from oracles import blobs, squared

from usl_backend.errors import SelectionError
from usl_backend.selection import METHODS, USL, score_new_rows


@pytest.fixture(scope="module")
def parts():
    rows, _ = blobs(900, 16, seed=0, dtype=np.float32)
    return rows[:800], rows[800:], USL().select(rows[:800], 12, rng=0)


def test_score_new_rows__scores_by_the_same_formula(parts):
    pool, new, selection = parts
    found = score_new_rows(new, pool=pool, selection=selection)
    mean = pool.astype(np.float64).mean(0)
    known = pool - mean
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    rows = new - mean
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    nearest = np.sort(squared(rows, known), axis=1)[:, :20]
    np.testing.assert_allclose(found.score, 1 / nearest.mean(1), rtol=1e-4)
    to_picks = squared(rows, known[selection.indices])
    assert np.array_equal(found.cluster, to_picks.argmin(1))
    assert sorted(found.order) == list(range(100))
    value = to_picks.min(1) / nearest.mean(1)
    np.testing.assert_allclose(value[found.order], np.sort(value)[::-1], rtol=1e-4)


def test_score_new_rows__same_kind_needs_no_new_run(parts):
    pool, new, selection = parts
    found = score_new_rows(new, pool=pool, selection=selection)
    assert not found.new_run
    assert found.sparse_share < 0.15
    assert "queue behind the picks" in found.reason


@pytest.mark.parametrize("preset", ["paper-imagenet-clip", "paper-imagenet-moco"])
def test_score_new_rows__count_themselves_where_the_pool_did(preset):
    rows = np.random.default_rng(0).normal(size=(700, 16)).astype(np.float32)
    pool, new = rows[:600], rows[600:]
    selection = USL(preset=preset).select(pool, 10, rng=0)
    again = score_new_rows(pool[:50], pool=pool, selection=selection)
    found = score_new_rows(new, pool=pool, selection=selection)
    placed = rows / np.linalg.norm(rows, axis=1, keepdims=True) if selection.parameters["normalize"] else rows
    nearest = np.sort(squared(placed[600:], placed[:600]), axis=1)[:, :19]
    expected = np.minimum(20 / nearest.sum(1), selection.score.max())
    np.testing.assert_allclose(found.score, expected, rtol=1e-4)
    assert found.sparse_share < 0.1, "rows of the same kind"
    assert not found.new_run
    assert (again.score >= selection.score[:50]).all(), "a copy has its original beside it"


def test_score_new_rows__near_duplicates_count_as_one_row():
    rng = np.random.default_rng(0)
    base, _ = blobs(400, 16, seed=2, dtype=np.float32)
    scenes, new = base[:300], base[300:]
    pool = np.repeat(scenes, 10, axis=0) + rng.normal(scale=1e-3, size=(3000, 16)).astype(np.float32)
    selection = USL().select(pool, 12, rng=0)
    assert selection.diagnostics["near_duplicate_rows"] == 2700
    found = score_new_rows(new, pool=pool, selection=selection)
    placed = base - pool.astype(np.float64).mean(0)
    placed /= np.linalg.norm(placed, axis=1, keepdims=True)
    k = selection.diagnostics["neighbors"]
    nearest = np.sort(squared(placed[300:], placed[:300]), axis=1)[:, :k]
    np.testing.assert_allclose(found.score, 1 / nearest.mean(1), rtol=0.03)
    assert 0.0 < found.sparse_share < 0.15, "some rows of the same kind are sparse, too"
    again = score_new_rows(pool[:500:7] + np.float32(1e-4), pool=pool, selection=selection)
    assert np.array_equal(again.score, selection.score[:500:7])


def test_score_new_rows__strange_rows_and_many_rows_ask_for_a_new_run(parts):
    pool, new, selection = parts
    rng = np.random.default_rng(0)
    strange = -pool.mean(0) * 40 + rng.normal(size=(60, 16)).astype(np.float32)
    found = score_new_rows(strange, pool=pool, selection=selection)
    assert found.new_run
    assert found.sparse_share > 0.3
    assert "of a new kind" in found.reason
    many = score_new_rows(np.concatenate([new, new]), pool=pool, selection=selection)
    assert many.new_run
    assert "200 new rows are 25%" in many.reason


def test_score_new_rows__are_scored_by_as_many_neighbors_as_the_pool(parts):
    pool, new, _ = parts
    usl = USL(near_duplicates=-1)
    selection = usl.select(pool, 100, rng=0)
    assert selection.diagnostics["neighbors"] == 4
    mean = pool.astype(np.float64).mean(0)
    known, rows = ((part - mean) / np.linalg.norm(part - mean, axis=1, keepdims=True) for part in (pool, new))
    expected = 1 / np.sort(squared(rows, known), axis=1)[:, :4].mean(1)
    expected = np.minimum(expected, selection.score.max())
    found = score_new_rows(new, pool=pool, selection=selection)
    np.testing.assert_allclose(found.score, expected, rtol=1e-3)
    # What an earlier version stored has the number among its parameters alone.
    told = {"diagnostics": {}, "parameters": {**selection.parameters, "neighbors": 4}}
    former = score_new_rows(new, pool=pool, selection=replace(selection, **told))
    assert np.array_equal(former.score, found.score)


def test_score_new_rows__copies_of_the_pool_score_at_most_as_its_densest(parts):
    pool, _, selection = parts
    copies = score_new_rows(np.repeat(pool[:1], 30, axis=0), pool=pool, selection=selection)
    assert np.isfinite(copies.score).all()
    assert copies.score.max() <= selection.score.max()


def test_score_new_rows__bad_input_is_named(parts):
    pool, new, selection = parts
    with pytest.raises(SelectionError, match="8 dimensions but the pool has 16"):
        score_new_rows(new[:, :8], pool=pool, selection=selection)
    with pytest.raises(SelectionError, match="'random' on 800 rows"):
        score_new_rows(new, pool=pool, selection=METHODS["random"]().select(pool, 5, rng=0))
    with pytest.raises(SelectionError, match="row 0 and 1 more rows of"):
        score_new_rows(np.full((2, 16), np.nan), pool=pool, selection=selection)

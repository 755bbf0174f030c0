import numpy as np
import pytest
from oracles import blobs, squared

from usl_backend.errors import SelectionError
from usl_backend.selection.rows.preparation import check_budget, check_embeddings, fit_projection, generator


@pytest.mark.parametrize("n", [500, 15])
def test_fit_projection__spans_the_principal_axes(n, monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, 20)) @ np.diag(np.linspace(5, 0.1, 20)) + 3
    sizes = []
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda table: sizes.append(len(table)) or eigh(table))
    projection = fit_projection(rows, dimensions=6, normalize=False)
    centred = rows - rows.mean(0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    placed = projection.apply(rows, dtype=np.float64)
    np.testing.assert_allclose(np.abs(placed), np.abs(centred @ axes[:6].T), atol=1e-9)
    # Never whitened: variances fall along the axes as the singular values do.
    np.testing.assert_allclose(np.linalg.norm(placed, axis=0), singular[:6], rtol=1e-9)
    np.testing.assert_allclose(projection.axes.T @ projection.axes, np.eye(6), atol=1e-12)
    assert sizes == [min(n, 20)], "the smaller table"


@pytest.mark.parametrize("rank", [0, 3])
def test_fit_projection__few_rows_that_vary_along_fewer_axes_keep_their_distances(rank):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(15, rank)) @ rng.normal(size=(rank, 20)) + 3
    projection = fit_projection(rows, dimensions=6, normalize=False)
    np.testing.assert_allclose(projection.axes.T @ projection.axes, np.eye(6), atol=1e-12)
    placed = projection.apply(rows, dtype=np.float64)
    np.testing.assert_allclose(squared(placed, placed), squared(rows, rows), atol=1e-9)


def test_fit_projection__few_dimensions_are_centred_only():
    rows, _ = blobs(100, 8, seed=0)
    projection = fit_projection(rows, dimensions=128)
    assert projection.axes is None
    expected = rows - rows.mean(0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(projection.apply(rows), expected, atol=1e-6)


def test_fit_projection__zero_dimensions_leaves_rows():
    rows, _ = blobs(50, 8, seed=0, unit=False)
    assert np.array_equal(
        fit_projection(rows, dimensions=0, normalize=False).apply(rows, dtype=np.float64), rows
    )


def test_fit_projection__places_new_rows_among_the_old():
    rows, _ = blobs(300, 20, seed=1, dtype=np.float32)
    projection = fit_projection(rows, dimensions=5)
    np.testing.assert_allclose(projection.apply(rows[7:9]), projection.apply(rows)[7:9], atol=1e-6)


def test_apply__rows_at_the_centre_stay_zero():
    rows = np.repeat(np.linspace(1, 2, 7, dtype=np.float32)[None], 30, axis=0)
    assert not fit_projection(rows, dimensions=4).apply(rows).any()
    assert not fit_projection(np.zeros((4, 3)), dimensions=0).apply(np.zeros((4, 3))).any()


def test_check_embeddings__counts_the_other_bad_rows():
    rows = np.ones((40_000, 2), dtype=np.float32)
    rows[[39_990, 20_000, 3], 1] = np.nan
    with pytest.raises(SelectionError, match="row 3 and 2 more rows"):
        check_embeddings(rows)


def test_check_embeddings__values_that_overflow_are_named():
    with pytest.raises(SelectionError, match="row 1 of the embeddings hold values beyond 1e18"):
        check_embeddings(np.array([[1.0, 2.0], [1e200, 0.0]]))


def test_generator__bad_seeds_are_named():
    for seed in (-1, 1.5, "x", None, True):
        with pytest.raises(SelectionError, match="rng is"):
            generator(seed)
    assert generator(np.int64(4)).random() == np.random.default_rng(4).random()


def test_apply__scale_of_the_pool_does_not_matter():
    rows, _ = blobs(60, 5, seed=3)
    small, large = (fit_projection(rows * s, dimensions=3).apply(rows * s) for s in (2.0**-60, 2.0**40))
    assert np.array_equal(small, large)


def test_check_budget__returns_sorted_distinct_labeled_rows():
    budget, held, _ = check_budget(np.int64(3), n=10, labeled=np.array([4, 1, 4]))
    assert budget == 3
    assert held.tolist() == [1, 4]
    with pytest.raises(SelectionError, match="row -1"):
        check_budget(3, n=10, labeled=np.array([-1]))
    with pytest.raises(SelectionError, match="budget is True"):
        check_budget(True, n=10)

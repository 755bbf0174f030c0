import numpy as np
import pytest
from oracles import blobs

from usl_backend.selection.rows import cells as cells_module
from usl_backend.selection.rows.cells import (
    CELL_ROWS,
    FEWEST_ROWS,
    LARGE_ROWS,
    candidates_wanted,
    make_cells,
)


def found(cells, n):
    """Neighbors that all blocks find together."""
    indices, distances = np.full((n, cells.k), -1), np.full((n, cells.k), np.nan, dtype=np.float32)
    for block in cells.blocks():
        own, (near, apart), looked = cells(block)
        assert looked.shape == (len(own), cells.probes)
        assert (indices[own] == -1).all()
        indices[own], distances[own] = near, apart
    return indices, distances


def test_cells__every_row_is_in_one_cell_of_bounded_size():
    rows, _ = blobs(9_000, 12, seed=0, groups=30, dtype=np.float32)
    cells = make_cells(rows, k=10)
    assert np.array_equal(np.sort(cells.order), np.arange(9_000))
    sizes = np.diff(cells.begin)
    assert sizes.sum() == 9_000
    assert sizes.min() >= FEWEST_ROWS
    assert sizes.max() <= CELL_ROWS
    # The cells of a cluster that has to be cut are of one size: whole clusters of few rows would not be.
    assert np.median(sizes) > CELL_ROWS / 2
    for cell, (begin, end) in enumerate(zip(cells.begin[:-1], cells.begin[1:], strict=True)):
        np.testing.assert_allclose(cells.centers[cell], rows[cells.order[begin:end]].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(("unit", "copied"), [(False, True), (False, False), (True, True)])
def test_cells__find_the_nearest_of_all_rows_in_the_nearest_cells(unit, copied, monkeypatch):
    rows, _ = blobs(6_000, 12, seed=1, groups=30, unit=unit, dtype=np.float32)
    if not copied:
        monkeypatch.setattr(cells_module, "ORDERED_BYTES", rows.nbytes - 1)
    k = 7
    cells = make_cells(rows, k=k)
    assert (cells.common > 0.0) == unit
    assert (cells.ordered is not None) == copied
    indices, distances = found(cells, len(rows))
    cell_of = np.empty(len(rows), dtype=int)
    cell_of[cells.order] = np.repeat(np.arange(len(cells.centers)), np.diff(cells.begin))
    exact = rows.astype(np.float64)
    assert 2 <= cells.probes < len(cells.centers)
    for block in range(0, len(cells.ends) - 1, 3):
        near = cells.near[block]
        for row in cells.order[cells.begin[cells.ends[block]] :][:5]:
            apart = ((exact[row] - cells.centers[near]) ** 2).sum(axis=1)
            apart[near == cell_of[row]] = -1.0
            looked = near[np.argsort(apart)[: cells.probes]]
            assert sorted(cells(block)[2][list(cells(block)[0]).index(row)]) == sorted(looked)
            candidates = np.flatnonzero(np.isin(cell_of, looked))
            apart = ((exact[row] - exact[candidates]) ** 2).sum(axis=1)
            apart[candidates == row] = -1.0
            nearest = np.argsort(apart)[1 : k + 1]
            assert indices[row].tolist() == candidates[nearest].tolist()
            np.testing.assert_allclose(distances[row], np.maximum(apart[nearest], 0.0), rtol=1e-4, atol=1e-7)


def test_cells__tiny_clusters_and_a_giant_one_leave_no_row_without_neighbors():
    rng = np.random.default_rng(0)
    tiny = np.repeat(10 * rng.normal(size=(900, 8)), 3, axis=0) + 0.01 * rng.normal(size=(2_700, 8))
    giant = 1e-3 * rng.normal(size=(4_000, 8))
    rows = np.concatenate([tiny, giant]).astype(np.float32)
    cells = make_cells(rows, k=25)
    assert np.diff(cells.begin).min() >= FEWEST_ROWS
    indices, distances = found(cells, len(rows))
    assert np.isfinite(distances).all()
    assert (indices != np.arange(len(rows))[:, None]).all()
    assert (np.diff(np.sort(indices, axis=1), axis=1) > 0).all()
    # The two copies of a row come first.
    assert (indices[:2_700, :2] // 3 == np.arange(2_700)[:, None] // 3).mean() > 0.99


def test_cells__one_row_of_zeros_among_rows_of_unit_length_is_no_neighbor_of_all():
    rows, _ = blobs(5_000, 12, seed=3, groups=5, dtype=np.float32)
    rows[17] = 0.0
    cells = make_cells(rows, k=5)
    assert cells.common == 0.0
    indices, distances = found(cells, len(rows))
    np.testing.assert_allclose(distances[17], 1.0, rtol=1e-5)
    assert not (np.delete(indices, 17, axis=0) == 17).any()


def test_cells__equal_and_very_long_rows_are_cut_without_a_warning():
    rows, _ = blobs(5_000, 8, seed=2, groups=5, dtype=np.float32)
    rows[:1_000] = rows[0]
    short, long = (make_cells(rows * np.float32(scale), k=5) for scale in (1.0, 2.0**50))
    assert np.array_equal(short.order, long.order), "a power of two changes no bit but the exponents"
    assert np.diff(short.begin).max() <= CELL_ROWS


def test_candidates_wanted__more_for_more_neighbors_and_fewer_in_large_pools():
    some, many, most = (candidates_wanted(k, rows=LARGE_ROWS) for k in (20, 100, 10_000))
    assert some < many < most == candidates_wanted(10_000, rows=LARGE_ROWS + 1)
    assert candidates_wanted(100, rows=LARGE_ROWS + 1) < many

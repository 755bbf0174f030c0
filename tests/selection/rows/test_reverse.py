from types import SimpleNamespace

import numpy as np
import pytest
from oracles import blobs, nearest

from usl_backend.selection.rows import reverse as reverse_module
from usl_backend.selection.rows.reverse import add_reverse


def cells_of(sizes, *, rng):
    """Rows by chance in cells of these sizes."""
    count = sum(sizes)
    return SimpleNamespace(
        order=rng.permutation(count).astype(np.int32),
        begin=np.concatenate([[0], np.cumsum(sizes)]),
        centers=np.zeros((len(sizes), 1)),
    )


def searched(rows, cells, looked, *, k):
    """Nearest k rows of each among those of the cells it looked into."""
    home = np.empty(len(rows), dtype=int)
    home[cells.order] = np.repeat(np.arange(len(cells.centers)), np.diff(cells.begin))
    apart = ((rows[:, None].astype(np.float64) - rows[None]) ** 2).sum(-1)
    seen = (looked[:, :, None] == home).any(axis=1)
    apart[~seen] = np.inf
    np.fill_diagonal(apart, np.inf)
    indices = apart.argsort(axis=1)[:, :k]
    return indices.astype(np.int32), np.take_along_axis(apart, indices, axis=1).astype(np.float32)


def merged(indices, distances):
    """Pairs of neighbors and distances that each row must have in the end, row by row."""
    indices, distances = indices.tolist(), distances.tolist()
    for row in range(len(indices)):
        known = dict(zip(indices[row], distances[row], strict=True))
        for other in range(len(indices)):
            if row in indices[other] and other not in known:
                known[other] = distances[other][indices[other].index(row)]
        yield sorted(known.items(), key=lambda pair: (pair[1], pair[0]))[: len(indices[row])]


@pytest.mark.parametrize("block", [64, 8192])
def test_add_reverse__merges_what_the_other_side_found(block, monkeypatch):
    monkeypatch.setattr(reverse_module, "ROWS", block)
    rng = np.random.default_rng(0)
    rows, _ = blobs(300, 8, seed=0, dtype=np.float32)
    cells = cells_of([100, 30, 70, 100], rng=rng)
    looked = np.stack([rng.permutation(4)[:2] for _ in rows]).astype(np.uint16)
    indices, distances = searched(rows, cells, looked, k=6)
    expected = list(merged(indices, distances))
    before = indices.copy()
    add_reverse(indices, distances, cells=cells, looked=looked)
    pairs = [list(zip(*row, strict=True)) for row in zip(indices.tolist(), distances.tolist(), strict=True)]
    assert pairs == expected
    assert (indices != before).any(axis=1).mean() > 0.5, "nothing was missed"


def test_add_reverse__a_row_that_everybody_names_keeps_its_nearest_only():
    # Row 0 lies in the middle of a star, has a cell of its own, and looked elsewhere.
    n = 500
    cells = SimpleNamespace(
        order=np.arange(n, dtype=np.int32), begin=np.array([0, 1, n - 2, n]), centers=np.zeros((3, 1))
    )
    apart = np.linspace(1.0, 2.0, n).astype(np.float32)
    indices = np.stack([np.zeros(n), np.roll(np.arange(n), 1)], axis=1).astype(np.int32)
    distances = np.stack([apart, np.full(n, 9.0, np.float32)], axis=1)
    indices[0], distances[0] = (n - 2, n - 1), (9.0, 9.5)
    looked = np.tile(np.array([0, 1], np.uint16), (n, 1))
    looked[0] = (0, 2)
    add_reverse(indices, distances, cells=cells, looked=looked)
    assert indices[0].tolist() == [1, 2]
    assert distances[0].tolist() == apart[1:3].tolist()


def test_add_reverse__nothing_to_add_changes_nothing():
    rows, _ = blobs(200, 8, seed=1, dtype=np.float32)
    indices, distances = nearest(rows.astype(np.float64), 199, include_self=False)
    indices, distances = indices.astype(np.int32), distances.astype(np.float32)
    before = indices.copy(), distances.copy()
    cells = cells_of([150, 50], rng=np.random.default_rng(0))
    add_reverse(indices, distances, cells=cells, looked=np.tile(np.array([0, 1], np.uint16), (200, 1)))
    assert np.array_equal(indices, before[0])
    assert np.array_equal(distances, before[1])

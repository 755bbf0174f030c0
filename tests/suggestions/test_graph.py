import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import pool

from usl_backend.selection import nearest_neighbors
from usl_backend.suggestions.graph import first_neighbors, local_order, smooth, spread, symmetric_graph


def dense(indices, extra=None):
    """P by its definition, in float64."""
    n, nodes = len(indices), len(indices) + (0 if extra is None else len(extra))
    joined = np.zeros((nodes, nodes), dtype=bool)
    for row, near in enumerate(indices):
        joined[row, near] = joined[near, row] = True
    for place, near in enumerate([] if extra is None else extra):
        joined[n + place, near] = joined[near, n + place] = True
    np.fill_diagonal(joined, False)
    return joined / np.maximum(joined.sum(axis=1, keepdims=True), 1)


def indices_of(rows, k=10, **options):
    return nearest_neighbors(rows, k=k, **options).indices


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(1, 10), st.integers(0, 3), st.integers(0, 1000))
def test_average__is_the_mean_over_either_direction(n, k, extras, seed):
    rng = np.random.default_rng(seed)
    k = min(k, n - 1)
    indices = indices_of(rng.normal(size=(n, 3)).astype(np.float32), k)
    extra = (
        rng.permuted(np.tile(np.arange(n), (extras, 1)), axis=1)[:, :k].astype(np.int32) if extras else None
    )
    values = rng.normal(size=(n + extras, 4)).astype(np.float32)
    found = symmetric_graph(indices, extra=extra).average(values)
    np.testing.assert_allclose(found, dense(indices, extra) @ values.astype(np.float64), atol=1e-5)


@pytest.mark.parametrize("k", [0, 3])
def test_average__overwrites_the_array_that_it_is_given(k):
    rng = np.random.default_rng(0)
    indices = indices_of(rng.normal(size=(60, 3)).astype(np.float32), 3)[:, :k]
    values = rng.normal(size=(60, 4)).astype(np.float32)
    out = np.full_like(values, np.nan)
    graph = symmetric_graph(indices)
    assert graph.average(values, out=out) is out
    assert np.array_equal(out, graph.average(values) if k else np.zeros_like(values))


def test_average__a_row_that_all_name_has_all_as_neighbors():
    # A hub has far more neighbors than there are such rows: the other way of adding up.
    n = 3000
    indices = np.stack([np.where(np.arange(n) == 0, 1, 0), np.roll(np.arange(n), 1)], axis=1).astype(np.int32)
    indices[1] = [0, 2]
    values = np.random.default_rng(0).normal(size=(n, 40)).astype(np.float32)
    found = symmetric_graph(indices).average(values)
    np.testing.assert_allclose(found, dense(indices) @ values.astype(np.float64), atol=1e-4)


def test_first_neighbors__self_in_front_is_none_and_columns_beyond_k_are_not_used():
    rows, _ = pool(80)
    plain = indices_of(rows, 10)
    assert np.array_equal(first_neighbors(plain), plain)
    assert np.array_equal(first_neighbors(indices_of(rows, 11, include_self=True)), plain)
    assert np.array_equal(first_neighbors(indices_of(rows, 25)), plain)
    assert first_neighbors(indices_of(rows, 4)).shape == (80, 4)


def test_agreement__counts_neighbors_with_the_label():
    rows, truth = pool(90, noise=1.5)
    indices = indices_of(rows)
    same = truth[:, None] == truth[None, :]
    expected = (dense(indices) * same).sum(axis=1)
    np.testing.assert_allclose(symmetric_graph(indices).agreement(truth), expected, atol=1e-6)


def test_smooth__goes_half_the_way_twice_and_ends_at_unit_length():
    rows, _ = pool(100)
    indices = indices_of(rows)
    step = (np.eye(100) + dense(indices)) / 2
    expected = step @ step @ rows.astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    before = rows.copy()
    np.testing.assert_allclose(smooth(rows, symmetric_graph(indices)), expected, atol=1e-5)
    assert np.array_equal(rows, before)
    assert not smooth(np.zeros((100, 2), dtype=np.float32), symmetric_graph(indices)).any()


def test_spread__solves_the_equation_better_than_fifty_plain_steps():
    rows, truth = pool(200, noise=1.0)
    indices = indices_of(rows)
    labeled = np.array([0, 1, 2, 33])
    start = np.zeros((200, 3))
    start[labeled, truth[labeled]] = 0.05
    P = dense(indices)

    def scaled(belief):
        return belief / np.sqrt(belief.sum(axis=0))

    exact = scaled(np.linalg.solve(np.eye(200) - 0.95 * P, start))
    plain = start
    for _ in range(50):
        plain = 0.95 * P @ plain + start
    found = spread(symmetric_graph(indices), labeled, classes=truth[labeled], count=3)
    assert np.abs(found - exact).max() < min(0.031 * exact.max(), np.abs(scaled(plain) - exact).max())
    longer = spread(symmetric_graph(indices), labeled, classes=truth[labeled], count=3, steps=60)
    np.testing.assert_allclose(longer, exact, atol=1e-5)


def test_spread__what_no_label_reaches_is_zero():
    rows, _ = pool(60, classes=2)
    far = np.concatenate([rows, rows + 100])
    found = spread(symmetric_graph(indices_of(far, 3)), np.array([0, 1]), classes=np.array([0, 1]), count=2)
    assert not found[60:].any()


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 100), st.integers(1, 10), st.integers(1, 20), st.integers(0, 1000))
def test_spread__is_never_negative(n, k, steps, seed):
    rows = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
    graph = symmetric_graph(indices_of(rows, min(k, n - 1)))
    found = spread(graph, np.array([0, 1]), classes=np.array([0, 1]), count=2, steps=steps)
    assert found.min() >= 0


@pytest.mark.parametrize("n", [2, 500])
def test_local_order__is_a_permutation_that_brings_neighbors_together(n):
    rows, _ = pool(n, classes=2, noise=0.2)
    rows = rows[np.random.default_rng(0).permutation(n)]
    indices = indices_of(rows)
    order = local_order(indices)
    assert np.array_equal(np.sort(order), np.arange(n))
    place = np.argsort(order)
    apart = np.abs(place[indices] - place[:, None]).mean()
    assert n == 2 or apart < 0.8 * np.abs(indices - np.arange(n)[:, None]).mean()

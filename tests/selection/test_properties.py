import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import blobs

from usl_backend.errors import SelectionError
from usl_backend.selection import METHODS, USL, nearest_neighbors

CHOICES = [{}, {"preset": "paper-cifar10"}, {"preset": "paper-imagenet-moco"}, {"density_weight": 1.0}]


def check(selection, n, m):
    assert len(selection.indices) == m
    assert len(set(selection.indices.tolist())) == m
    assert selection.indices.min() >= 0
    assert selection.indices.max() < n
    assert np.array_equal(selection.cluster[selection.indices], np.arange(m))
    assert np.isin(selection.cluster, np.arange(m)).all()
    assert (selection.gain >= 0).all()
    assert np.isfinite(selection.gain).all()
    if selection.score is not None:
        assert np.isfinite(selection.score).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_select__any_finite_rows_give_exactly_m_distinct_picks(data):
    dtype = data.draw(st.sampled_from([np.float16, np.float32, np.float64]))
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 6)))
    values = st.sampled_from([0.0, 1.0, -1.0, 0.5, 3.0, 2.0**-10, 100.0])
    rows = data.draw(hnp.arrays(dtype, shape, elements=values))
    m = data.draw(st.integers(1, shape[0]))
    options = data.draw(st.sampled_from(CHOICES))
    check(USL(**options).select(rows, m, rng=0), shape[0], m)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(set(METHODS) - {"usl-t"})))
def test_select__whatever_the_values_exactly_m_picks_or_an_error_that_names_the_row(data, name):
    shape = data.draw(st.tuples(st.integers(2, 25), st.integers(1, 4)))
    rows = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(width=32)))
    m = data.draw(st.integers(1, shape[0]))
    fit = (np.abs(rows.astype(np.float64)) < 1e18).all(axis=1)
    if fit.all():
        check(METHODS[name]().select(rows, m, rng=0), shape[0], m)
    else:
        with pytest.raises(SelectionError, match=f"row {np.flatnonzero(~fit)[0]} "):
            METHODS[name]().select(rows, m, rng=0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 0.9), name=st.sampled_from(sorted(METHODS)))
def test_select__labeled_rows_are_never_picked(seed, share, name):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(50, 5)).astype(np.float32).round(1)
    labeled = np.flatnonzero(rng.random(50) < share)[:49]
    m = int(rng.integers(1, 50 - len(labeled) + 1))
    selection = METHODS[name]().select(rows, m, rng=seed, labeled=labeled)
    check(selection, 50, m)
    assert not set(selection.indices) & set(labeled)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_select__default_does_not_care_about_the_scale_of_the_pool(seed):
    rows, _ = blobs(120, 6, seed=seed)
    # A power of two keeps every bit of the mantissa.
    scaled = rows * 4.0
    assert np.array_equal(USL().select(rows, 8, rng=0).indices, USL().select(scaled, 8, rng=0).indices)


@pytest.mark.parametrize("options", CHOICES)
@pytest.mark.parametrize("m", [1, 7, 60])
@pytest.mark.parametrize("kind", ["identical", "zeros", "copies", "outlier", "one group", "line"])
def test_select__hard_pools(kind, m, options):
    rng = np.random.default_rng(0)
    rows = {
        "identical": np.ones((60, 4)),
        "zeros": np.concatenate([np.zeros((20, 4)), rng.normal(size=(40, 4))]),
        "copies": np.repeat(rng.normal(size=(3, 4)), 20, axis=0),
        "outlier": np.concatenate([rng.normal(size=(59, 4)), np.full((1, 4), 1e6)]),
        "one group": 1.0 + rng.normal(size=(60, 4)) * 1e-4,
        "line": np.arange(60.0)[:, None] * np.ones((1, 4)),
    }[kind].astype(np.float32)
    check(USL(**options).select(rows, m, rng=0), 60, m)


@pytest.mark.parametrize("options", CHOICES)
def test_select__ten_thousand_duplicates(options):
    base, _ = blobs(200, 6, seed=0, dtype=np.float32)
    rows = np.concatenate([base, np.repeat(base[:1], 10_000, axis=0)])
    selection = USL(**options).select(rows, 20, rng=0)
    check(selection, len(rows), 20)
    assert len(np.unique(rows[selection.indices], axis=0)) == 20


def test_select__fewer_rows_than_neighbors():
    rows, _ = blobs(6, 4, seed=0, dtype=np.float32)
    for options in CHOICES:
        check(USL(**options).select(rows, 3, rng=0), 6, 3)
    assert nearest_neighbors(rows, k=20).indices.shape == (6, 5)

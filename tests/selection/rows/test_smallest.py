import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usl_backend.selection.rows.smallest import GROUP, GROUPS_PER_PLACE, smallest


def check(values, k):
    columns, found = smallest(values, k)
    assert columns.shape == (len(values), k)
    assert all(len(set(row)) == k for row in columns.tolist())
    assert np.array_equal(np.take_along_axis(values, columns, axis=1), found)
    assert np.array_equal(np.sort(found, axis=1), np.sort(values, axis=1)[:, :k])


@pytest.mark.parametrize("k", [1, 5, 33])
@pytest.mark.parametrize(
    "width", [33, 33 * GROUP * GROUPS_PER_PLACE - 1, 33 * GROUP * GROUPS_PER_PLACE, 4099]
)
def test_smallest__matches_sorting(width, k):
    check(np.random.default_rng(width).normal(size=(70, width)).astype(np.float32), k)


def test_smallest__all_of_them_and_all_the_same():
    check(np.random.default_rng(0).normal(size=(3, 7)), 7)
    check(np.zeros((5, 2000), dtype=np.float32), 20)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_smallest__with_ties_and_infinities(data):
    k = data.draw(st.integers(1, 3))
    width = data.draw(st.integers(k, 4 * GROUP * GROUPS_PER_PLACE))
    values = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.inf])
    check(data.draw(hnp.arrays(np.float32, (4, width), elements=values)), k)

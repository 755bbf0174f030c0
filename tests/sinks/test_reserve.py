import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from usl_backend.selection.base import Neighbors, Selection
from usl_backend.sinks.reserve import reserve_rows


def selection(indices: list[int], cluster: list[int], score: list[float] | None) -> Selection:
    return Selection(
        indices=np.array(indices, np.int64),
        gain=np.ones(len(indices)),
        score=None if score is None else np.array(score, np.float32),
        cluster=np.array(cluster, np.int32),
    )


NOTHING = np.array([], np.int64)


def test_reserve_rows__largest_cluster_first_then_by_score() -> None:
    # Cluster 0 has rows 0-5 (pick 0), cluster 1 has rows 6-8 (pick 6): averages 6/2, 6/3, then 3/2 = 6/4.
    chosen = selection([0, 6], [0] * 6 + [1] * 3, [9, 1, 5, 3, 4, 2, 9, 7, 8])
    assert reserve_rows(chosen, 4, excluded=NOTHING).tolist() == [2, 4, 3, 8]


def test_reserve_rows__near_duplicates_of_picks_come_last() -> None:
    chosen = selection([0], [0, 0, 0, 0], [9, 8, 7, 6])
    indices = np.array([[1], [0], [3], [2]], np.int32)
    neighbors = Neighbors(indices, np.zeros((4, 1), np.float32), exact=True)
    # Row 1 is a neighbour of the pick; row 2 brings row 3 down with it, so 1 precedes 3 by score.
    assert reserve_rows(chosen, 3, excluded=NOTHING, neighbors=neighbors).tolist() == [2, 1, 3]


def test_reserve_rows__labeled_rows_are_left_out_and_few_are_enough() -> None:
    chosen = selection([2], [0, 0, 0, 0], None)
    assert reserve_rows(chosen, 10, excluded=np.array([1], np.int64)).tolist() == [0, 3]


def test_reserve_rows__nothing_left() -> None:
    chosen = selection([0, 1], [0, 1], [1, 2])
    assert reserve_rows(chosen, 5, excluded=NOTHING).tolist() == []


def oracle(chosen: Selection, count: int, excluded: set[int], near_of: list[list[int]]) -> list[int]:
    """The rule of the docstring, one row at a time, nothing sorted in advance."""
    m = len(chosen.indices)
    taken = set(chosen.indices.tolist())
    near = {row for pick in taken for row in near_of[pick]}
    size = [chosen.cluster.tolist().count(c) for c in range(m)]
    many = [1] * m
    found: list[int] = []
    while len(found) < count:
        rows = [r for r in range(len(chosen.cluster)) if r not in taken | excluded]
        left = {c: [r for r in rows if chosen.cluster[r] == c] for c in range(m)}
        open_clusters = [c for c in range(m) if left[c]]
        if not open_clusters:
            break
        c = min(open_clusters, key=lambda c: (-size[c] / (1 + many[c]), c))
        assert chosen.score is not None
        far = [r for r in left[c] if r not in near] or left[c]
        row = min(far, key=lambda r: (-float(chosen.score[r]), r))
        found.append(row)
        taken.add(row)
        near |= set(near_of[row])
        many[c] += 1
    return found


@given(st.data())
def test_reserve_rows__agrees_with_the_rule_step_by_step(data: st.DataObject) -> None:
    n = data.draw(st.integers(3, 14))
    m = data.draw(st.integers(1, n - 1))
    cluster = np.array(
        [*range(m), *data.draw(st.lists(st.integers(0, m - 1), min_size=n - m, max_size=n - m))]
    )
    score = data.draw(hnp.arrays(np.float32, n, elements=st.sampled_from([0.0, 0.5, 1.0, 2.0])))
    near = data.draw(hnp.arrays(np.int32, (n, 2), elements=st.integers(0, n - 1)))
    excluded = data.draw(st.sets(st.integers(m, n - 1), max_size=3))
    chosen = Selection(np.arange(m), np.ones(m), score, cluster.astype(np.int32))
    count = data.draw(st.integers(0, n))
    rows = reserve_rows(
        chosen,
        count,
        excluded=np.array(sorted(excluded), np.int64),
        neighbors=Neighbors(near, np.zeros((n, 2), np.float32), exact=True),
    )
    assert rows.tolist() == oracle(chosen, count, excluded, near.tolist())


@pytest.mark.parametrize("count", [0, 1, 3])
def test_reserve_rows__as_many_as_asked(count: int) -> None:
    chosen = selection([0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1])
    assert reserve_rows(chosen, count, excluded=NOTHING).tolist() == [1, 2, 3, 4][:count]

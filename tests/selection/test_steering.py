"""Pinned and excluded rows of every method, against what has to hold whatever the method does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import blobs, squared

from usl_backend.errors import SelectionError
from usl_backend.selection import METHODS, USL
from usl_backend.selection.rows.duplicates import Groups
from usl_backend.selection.rows.preparation import fit_projection
from usl_backend.selection.steering import select_around, select_inside

NONE = np.empty(0, np.int64)


def around(method, rows, budget, *, pinned=NONE, labeled=NONE, excluded=NONE, rng=0):
    return select_around(
        lambda count, held: method.select(rows, count, rng=rng, labeled=held, excluded=excluded),
        rows,
        budget,
        pinned=np.asarray(pinned, np.int64),
        labeled=np.asarray(labeled, np.int64),
        excluded=np.asarray(excluded, np.int64),
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.0, 0.9), name=st.sampled_from(sorted(METHODS)))
def test_select__excluded_rows_are_never_picked(seed, share, name):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(50, 5)).astype(np.float32).round(1)
    rows[10:20] = rows[rng.integers(0, 10, 10)]  # copies, excluded or not
    fate = rng.random(50)
    labeled, excluded = np.flatnonzero(fate < share / 3), np.flatnonzero((fate >= share / 3) & (fate < share))
    free = 50 - len(labeled) - len(excluded)
    m = int(rng.integers(1, free + 1)) if free else 1
    if not free:
        return
    options = {"clusters": 40, "epochs": 1} if name == "usl-t" and seed % 2 else {}
    selection = METHODS[name](**options).select(rows, m, rng=seed, labeled=labeled, excluded=excluded)
    assert len(set(selection.indices.tolist())) == m
    assert not set(selection.indices) & {*labeled, *excluded}
    assert np.array_equal(selection.cluster[selection.indices], np.arange(m))
    assert np.isin(selection.cluster, np.arange(m)).all()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_select__excluded_picks_are_replaced_and_the_rest_stays(name):
    rows, truth = blobs(240, 8, seed=2, dtype=np.float32)
    method = METHODS[name]()
    before = method.select(rows, 8, rng=0).indices
    after = method.select(rows, 8, rng=0, excluded=before[:1]).indices
    assert before[0] not in after
    if name not in ("random", "facility-location", "maxherding"):  # those choose one after the other
        assert len(set(before) & set(after)) == 7
        assert sorted(truth[after]) == sorted(truth[before]), "another row of the same cluster"


def test_select__every_row_but_some_excluded():
    rows, _ = blobs(40, 4, seed=0, dtype=np.float32)
    for name in sorted(METHODS):
        found = METHODS[name]().select(rows, 10, rng=0, excluded=np.arange(30))
        assert sorted(found.indices) == list(range(30, 40)), name
    with pytest.raises(SelectionError, match="budget is 11 but the pool has 40 rows, 30 of them excluded"):
        USL().select(rows, 11, rng=0, excluded=np.arange(30))
    with pytest.raises(SelectionError, match="excluded names row 40"):
        USL().select(rows, 3, rng=0, excluded=np.array([40]))


def test_select__a_copy_speaks_for_an_excluded_leader():
    rows, _ = blobs(100, 4, seed=5, dtype=np.float32)
    rows = np.concatenate([rows, rows])
    picks = USL().select(rows, 4, rng=0).indices
    again = USL().select(rows, 4, rng=0, excluded=picks).indices
    assert np.array_equal(np.sort(again % 100), np.sort(picks % 100))
    assert not set(picks) & set(again)


@given(st.data())
def test_speakers__first_member_that_may_be_picked(data):
    leader = data.draw(st.lists(st.integers(0, 9), min_size=10, max_size=10))
    leader = [own if leader[own] == own else row for row, own in enumerate(leader)]
    leaders, member_of, sizes = np.unique(leader, return_inverse=True, return_counts=True)
    excluded = data.draw(st.sets(st.integers(0, 9)))
    found = Groups(leaders, member_of.ravel(), sizes).speakers(np.array(sorted(excluded), np.int64))
    for number, own in enumerate(leaders.tolist()):
        members = [own, *(row for row in range(10) if leader[row] == own)]
        assert found[number] == next((row for row in members if row not in excluded), -1)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_select_around__pinned_rows_come_first_and_count(name):
    rows, _ = blobs(120, 6, seed=1, dtype=np.float32)
    pinned, excluded, labeled = [100, 3, 50], np.arange(10, 20), np.array([0, 1])
    found = around(METHODS[name](), rows, 9, pinned=pinned, excluded=excluded, labeled=labeled)
    assert found.indices[:3].tolist() == pinned
    assert len(set(found.indices.tolist())) == 9
    assert not set(found.indices.tolist()) & {*excluded.tolist(), 0, 1}
    assert found.gain.shape == (9,)
    assert found.gain[:3].tolist() == [0, 0, 0]
    assert (found.diagnostics["pinned"], found.diagnostics["excluded"]) == (pinned, excluded.tolist())
    projected = fit_projection(rows, dimensions=128).apply(rows).astype(np.float64)
    apart = squared(projected, projected[found.indices])
    assert np.allclose(apart[np.arange(120), found.cluster], apart.min(axis=1), atol=1e-5)
    assert np.array_equal(found.cluster[found.indices], np.arange(9))


def test_select_around__others_go_where_no_pin_is():
    truth = np.repeat(np.arange(6), 50)
    noise = np.random.default_rng(0).normal(size=(300, 12)) * 0.2
    rows = (np.eye(6, 12)[truth] * 3 + noise).astype(np.float32)
    found = around(USL(), rows, 6, pinned=[120, 7, 260])
    assert truth[found.indices[:3]].tolist() == [2, 0, 5]
    assert sorted(truth[found.indices]) == [*range(6)]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_select_around__nothing_but_pins(name):
    rows, _ = blobs(60, 4, seed=3, dtype=np.float32)
    assert around(METHODS[name](), rows, 3, pinned=[9, 2, 30]).indices.tolist() == [9, 2, 30]
    # nothing else is left of the pool
    rest = np.setdiff1d(np.arange(60), [9, 2, 30])
    found = around(METHODS[name](), rows, 3, pinned=[9, 2, 30], excluded=rest[:20], labeled=rest[20:])
    assert found.indices.tolist() == [9, 2, 30]
    with pytest.raises(SelectionError, match="budget is 2 but 3 rows are pinned"):
        around(METHODS[name](), rows, 2, pinned=[9, 2, 30])


@pytest.mark.parametrize("free", [0, 2])
def test_select_around__refuses_a_budget_beyond_the_rows_that_may_be_picked(free):
    rows, _ = blobs(60, 4, seed=3, dtype=np.float32)
    rest = np.arange(3 + free, 60)
    wanted = (
        f"budget is 6 but {3 + free} of 60 rows may be picked, 3 pinned ones among them: 20 are labeled, "
        f"{37 - free} excluded and 0 outliers; lower the budget to {3 + free} or less"
    )
    with pytest.raises(SelectionError, match=wanted):
        around(USL(), rows, 6, pinned=[2, 0, 1], labeled=rest[:20], excluded=rest[20:])
    most = around(USL(), rows, 3 + free, pinned=[2, 0, 1], labeled=rest[:20], excluded=rest[20:])
    assert sorted(most.indices) == list(range(3 + free))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_select_around__without_wishes_it_is_the_method(name):
    rows, _ = blobs(60, 4, seed=3, dtype=np.float32)
    plain, found = METHODS[name]().select(rows, 5, rng=0), around(METHODS[name](), rows, 5)
    assert np.array_equal(plain.indices, found.indices)
    assert np.array_equal(plain.cluster, found.cluster)
    assert found.diagnostics == plain.diagnostics


@pytest.mark.parametrize("name", sorted(METHODS))
def test_select_inside__as_if_there_were_no_other_rows(name):
    rows, _ = blobs(90, 6, seed=4, dtype=np.float32)
    inside = np.setdiff1d(np.arange(90), np.arange(5, 60, 3))
    labeled, excluded = inside[[2, 40]], inside[[0, 7, 30]]

    def choose(part, held, barred):
        assert np.array_equal(part, rows[inside])
        return METHODS[name]().select(part, 6, rng=0, labeled=held, excluded=barred)

    found = select_inside(choose, rows, inside, labeled=labeled, excluded=excluded)
    alone = choose(rows[inside], np.array([2, 40]), np.array([0, 7, 30]))
    assert found.indices.tolist() == inside[alone.indices].tolist()
    assert found.gain.tolist() == alone.gain.tolist()
    assert found.cluster[inside].tolist() == alone.cluster.tolist()
    outside = np.setdiff1d(np.arange(90), inside)
    projected = fit_projection(rows, dimensions=128).apply(rows).astype(np.float64)
    apart = squared(projected[outside], projected[found.indices])
    assert np.allclose(apart[np.arange(len(outside)), found.cluster[outside]], apart.min(axis=1), atol=1e-5)
    if alone.score is None:
        assert found.score is None
    else:
        assert found.score[inside].tolist() == alone.score.tolist()
        assert (found.score[outside] == alone.score.min()).all()
    assert not any(key.startswith("near_duplicate") for key in found.diagnostics)

"""Queues of what is left, against brute force with full knowledge of what was lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usl_backend.instances import Pool
from usl_backend.selection.base import Selection
from usl_backend.settings import RunSettings
from usl_backend.sinks.changes import Changes
from usl_backend.sinks.control import control_rows
from usl_backend.sinks.making_up import current_queue, made_up_warnings


def selection_of(rng, n, m):
    """A selection with clusters, scores and picks that are any rows of their clusters."""
    cluster = rng.integers(0, m, n).astype(np.int32)
    indices = rng.permutation(n)[:m]
    cluster[indices] = np.arange(m)
    score = rng.integers(0, 6, n).astype(np.float32)  # with ties
    return Selection(indices, np.ones(m), score, cluster)


def settings_of(**values):
    return RunSettings.resolve(explicit=values, environ={})


def expected_picks(selection, lost, labeled):
    """The next best of the own cluster, else of all, with everything known from the start."""
    picks, cluster = selection.indices.tolist(), selection.cluster.tolist()
    for rank, row in enumerate(selection.indices.tolist()):
        if row not in lost:
            continue
        free = [r for r in range(len(cluster)) if r not in lost and r not in labeled and r not in picks]
        own = [r for r in free if cluster[r] == rank] or free
        if not own:
            break
        picks[rank] = max(own, key=lambda r: (float(selection.score[r]), -r))
        cluster[picks[rank]] = rank
    return picks


@given(seed=st.integers(0, 10**6), n=st.integers(30, 60), share=st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_current_queue__what_is_left(seed, n, share):
    rng = np.random.default_rng(seed)
    pool = Pool(np.arange(n) * 3 + 5, np.zeros((n, 1), np.float32))
    selection = selection_of(rng, n, 6)
    rest = np.setdiff1d(np.arange(n), selection.indices)
    labeled, odd = np.split(rng.permutation(rest)[:7], [4])
    held = {*labeled.tolist(), *odd.tolist()}
    gone = rng.random(n) < share / 2
    taken = ~gone & (rng.random(n) < share)
    settings = settings_of(reserve=5, seed=seed % 100)
    drawn = control_rows(np.setdiff1d(np.arange(n), labeled), 4, seed=settings.seed)
    asked = []

    def changes(tasks):
        asked.extend(tasks)
        rows = np.searchsorted(pool.ids, tasks)
        return Changes(
            frozenset(pool.ids[rows[gone[rows]]].tolist()), frozenset(pool.ids[rows[taken[rows]]].tolist())
        )

    found, queue = current_queue(
        pool,
        selection,
        barred=labeled,
        unpicked=odd,
        drawn=drawn,
        settings=settings,
        neighbors=None,
        changes=changes,
    )
    lost = set(np.flatnonzero(gone | taken).tolist())
    picks = expected_picks(selection, lost, held)
    assert found.indices.tolist() == picks
    assert queue.of_role("pick") == tuple(pool.ids[picks].tolist())
    assert found.cluster[found.indices].tolist() == list(range(6))
    # nobody is asked twice for the same task
    assert len(asked) == len(set(asked))
    there = {int(pool.ids[row]) for row in range(n) if not gone[row]}
    assert set(queue.control_set) <= there
    left = [row for row in range(n) if row not in set(labeled.tolist()) and not gone[row]]
    assert len(queue.control_set) == min(4, len(left))
    assert {int(pool.ids[row]) for row in drawn if not gone[row]} <= set(queue.control_set)
    reserve = queue.of_role("reserve")
    assert not {int(pool.ids[row]) for row in lost | held} & set(reserve)
    spare = set(range(n)) - lost - held - set(picks)
    spare -= {int(np.searchsorted(pool.ids, task)) for task in queue.control_set}
    assert len(reserve) == min(5, len(spare))
    if not gone.any() and not taken.any():
        assert found is selection


def test_current_queue__says_what_was_replaced():
    rng = np.random.default_rng(3)
    pool = Pool(np.arange(40) + 100, np.zeros((40, 1), np.float32))
    selection = selection_of(rng, 40, 4)
    first, second = (int(pool.ids[row]) for row in selection.indices[:2])

    def queue_of(selection, deleted, labeled):
        return current_queue(
            pool,
            selection,
            barred=np.empty(0, np.int64),
            unpicked=np.empty(0, np.int64),
            drawn=np.empty(0, np.int64),
            settings=settings_of(reserve=0),
            neighbors=None,
            changes=lambda _: Changes(frozenset(deleted), frozenset(labeled)),
        )

    once, queue = queue_of(selection, {first}, set())
    assert made_up_warnings(selection, queue) == []
    (warning,) = made_up_warnings(once, queue)
    assert warning.startswith(f"1 of 4 picks (first: task {first}) were labeled or deleted")
    # resumed, when another one was lost too
    twice, queue = queue_of(once, {first}, {second})
    assert made_up_warnings(twice, queue)[0].startswith(f"2 of 4 picks (first: task {first})")
    assert not {first, second} & set(queue.tasks)


@pytest.mark.parametrize("lost", ["deleted", "labeled"])
def test_current_queue__nothing_left_keeps_the_picks(lost):
    pool = Pool(np.arange(5), np.zeros((5, 1), np.float32))
    selection = selection_of(np.random.default_rng(0), 5, 2)
    found, queue = current_queue(
        pool,
        selection,
        barred=np.empty(0, np.int64),
        unpicked=np.empty(0, np.int64),
        drawn=np.empty(0, np.int64),
        settings=settings_of(reserve=2),
        neighbors=None,
        changes=lambda tasks: Changes(**{lost: frozenset(tasks)}),
    )
    assert found.indices.tolist() == selection.indices.tolist()
    assert queue.tasks == tuple(selection.indices.tolist())

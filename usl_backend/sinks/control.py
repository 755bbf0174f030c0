"""Uniform draw of the control set, independent of the picks; `queue.py` queues it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from usl_backend.errors import InputError
from usl_backend.runs import RunState

if TYPE_CHECKING:
    from collections.abc import Container

    from numpy.typing import NDArray

    from usl_backend.instances import Pool, Queue
    from usl_backend.runs import Run, RunStore

_STREAM = 0xC0
"""Stream number that makes this draw independent of the seed's other uses."""
_LATER, _COUNTED = 1, 2
"""Numbers within the stream: draws after the run, and drawn picks that count."""


def control_rows(free: NDArray[np.int64], count: int, *, seed: int) -> NDArray[np.int64]:
    """Draw the control set uniformly from all rows without labels, picks included.

    Parameters
    ----------
    free : (f,) int64
        Rows without labels.
    count
        Rows to draw.
    seed
        Seed of the run; the draw is independent of the picks made with the same seed.

    Returns
    -------
    (count,) int64
        Distinct rows in random order, so every prefix is a uniform draw too.

    Raises
    ------
    InputError
        `count` is larger than f.
    """
    if count > len(free):
        raise InputError(
            f"control is {count} but only {len(free)} tasks can be drawn; lower control to {len(free)} or less"
        )
    return np.random.default_rng([seed, _STREAM]).choice(free, count, replace=False)


def further_rows(free: NDArray[np.int64], count: int, *, n: int, seed: int) -> NDArray[np.int64]:
    """Draw more of the control set after the run, uniformly from the rows that are not in it.

    With the rows drawn before they are a uniform draw of both: whatever was drawn earlier, what remains is drawn
    without regard to it. A smaller draw is a prefix of a larger one, also when rows have gone since.

    Parameters
    ----------
    free : (f,) int64
        Rows of the pool that are not in the control set.
    count
        Rows to draw, at most f.
    n
        Number of rows of the pool.
    seed
        Seed of the run.

    Returns
    -------
    (count,) int64
        Distinct rows in random order.
    """
    key = np.random.default_rng([seed, _STREAM, _LATER]).random(n)[free]
    return free[np.argsort(key, kind="stable")[:count]]


def counted(queue: Queue, labeled: Container[int], *, seed: int) -> tuple[int, ...]:
    """Return the labeled members of the control set that together are a uniform draw.

    Picks are labeled first, so that of a control set labeled in part too many would be picks: of the drawn picks only
    that share counts which the others have reached. Once all of them are labeled, all count.

    Parameters
    ----------
    queue
        Queue with a control set.
    labeled
        Ids with a label.
    seed
        Seed of the run, which decides the drawn picks that count.

    Returns
    -------
    tuple of int
        Ids, picks first.
    """
    picks = set(queue.of_role("pick"))
    others = [one for one in queue.control_set if one not in picks]
    reached = [one for one in others if one in labeled]
    drawn = [one for one in queue.control_set if one in picks]
    np.random.default_rng([seed, _STREAM, _COUNTED]).shuffle(drawn)
    share = len(reached) / len(others) if others else 1.0
    return (*(one for one in drawn[: round(share * len(drawn))] if one in labeled), *reached)


def earlier_control(run: Run, pool: Pool, *, store: RunStore) -> tuple[int, ...]:
    """Return the control set that the run before hands on to one that keeps labels.

    It stays a uniform draw: of the instances that are new in the pool as large a share is drawn.

    Parameters
    ----------
    run
        The new run.
    pool
        Its pool, labeled instances included.
    store
        Store of the earlier runs.

    Returns
    -------
    tuple of int
        Ids in the new pool; empty if there was no control set, or its run was removed.
    """
    for earlier in store.list(project=run.project, pool=run.pool, state=RunState.DONE):
        files = store.files(earlier.id)
        other = earlier.project_key and run.project_key and earlier.project_key != run.project_key
        if earlier.dry_run or other or not files.has_published():
            continue
        drawn = np.asarray(files.read_published().queue.control_set, dtype=np.int64)
        if not len(drawn) or not files.has_pool():
            return ()
        before = files.read_pool()[0].ids
        held = np.setdiff1d(np.asarray(files.read_inventory().labeled, dtype=np.int64), drawn)
        fresh = np.flatnonzero(~np.isin(pool.ids, np.union1d(before, held)))
        share = len(drawn) / max(1, len(before) - int(np.isin(before, held).sum()))
        seed = int(run.settings.get("seed") or 0)
        more = further_rows(fresh, round(share * len(fresh)), n=len(pool), seed=seed)
        return (*drawn[np.isin(drawn, pool.ids)].tolist(), *pool.ids[more].tolist())
    return ()

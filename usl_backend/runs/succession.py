"""Whether a run's queue is still in force, going by the records of this data directory; Label Studio is not asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usl_backend.runs.record import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from usl_backend.runs.record import Run
    from usl_backend.runs.store import RunStore

_LATER = 1000
"""Later runs of a project that are looked through."""


@dataclass(frozen=True)
class Succession:
    """What has become of the queue that a run published.

    Attributes
    ----------
    published
        True if the run wrote a queue to a project.
    in_force
        True if no later run has replaced it and nobody has reset the project.
    replaced_by
        The run that published to the project next; "" if there is none.
    now
        The run whose queue is in force in the project; "" if there is none.
    extended
        Number of tasks queued behind the run's since.
    """

    published: bool = False
    in_force: bool = False
    replaced_by: str = ""
    now: str = ""
    extended: int = 0


def succession(store: RunStore, run: Run) -> Succession:
    """Return what has become of a run's queue."""
    if not _published(run) or run.published_to is None:
        return Succession()
    state = store.queue_state(run.published_to.key)
    now = "" if state is None else state.run_id
    if state is not None and now == run.id:
        return Succession(True, True, now=now, extended=len(state.extended))
    return Succession(True, False, _successor(store, run) or now, now)


def former(runs: Sequence[Run]) -> dict[str, str]:
    """Return run -> the completed run of the same project or pool before it, for completed runs, newest first."""
    found: dict[str, str] = {}
    newer: dict[tuple[int, str], str] = {}
    for run in runs:
        if run.state is RunState.DONE:
            pool = (run.project, run.pool)
            if pool in newer:
                found[newer[pool]] = run.id
            newer[pool] = run.id
    return found


def in_force(store: RunStore, runs: Iterable[Run]) -> set[str]:
    """Return the runs that are in force in the projects that some runs published to, whether among these or not."""
    keys = {run.published_to.key for run in runs if _published(run) and run.published_to is not None}
    states = (store.queue_state(key) for key in keys)
    return {state.run_id for state in states if state is not None}


def linked(store: RunStore, run: Run) -> Run:
    """Return the run without its tab where that was deleted because another queue is in force, for links."""
    if run.summary is None or run.summary.tab is None or run.id in in_force(store, (run,)):
        return run
    return replace(run, summary=replace(run.summary, tab=None))


def titles(runs: Iterable[Run]) -> dict[int, str]:
    """Return the titles of the projects of some runs, as the newest of them found it; runs come newest first."""
    found: dict[int, str] = {}
    for run in runs:
        if run.summary is not None and run.summary.project.title:
            found.setdefault(run.project, run.summary.project.title)
    return found


def _published(run: Run) -> bool:
    """Return True if a run wrote a queue to a project."""
    return (
        run.state is RunState.DONE
        and not run.dry_run
        and run.summary is not None
        and bool(run.summary.model_version)
    )


def _successor(store: RunStore, run: Run) -> str:
    """Return the run of the same project that published next; "" if there is none."""
    if run.pool or run.published_to is None:
        return ""
    following = ""
    for later in store.list(project=run.project, state=RunState.DONE, limit=_LATER):
        if later.id == run.id:
            return following
        if (
            _published(later)
            and later.published_to is not None
            and later.published_to.key == run.published_to.key
        ):
            following = later.id
    return following

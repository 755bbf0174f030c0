"""States of a run's tasks for its report: one reading of Label Studio serves all who ask meanwhile."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flask import current_app

from usl_backend.errors import USLError
from usl_backend.web.services import STUDIO_SECONDS, services

if TYPE_CHECKING:
    from usl_backend.report.states import TaskStates
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings

EXTENSION: Final = "usl-task-states"
FRESH: Final = 10.0
"""Seconds for which labels are not read again: an export of many of them takes long."""


class StateReadings:
    """Readings of the tasks of runs that somebody looks at.

    Parameters
    ----------
    host, store
        Host settings and run store.
    """

    def __init__(self, host: HostSettings, store: RunStore) -> None:
        self._host, self._store = host, store
        self._lock = threading.Lock()
        self._running: dict[str, Future[TaskStates]] = {}

    def get(self, run: Run) -> TaskStates:
        """Return the states: read now, or a few seconds ago, or the last ones with the reason why."""
        with self._lock:
            running = self._running.get(run.id)
            if running is None:
                mine = self._running[run.id] = Future()
        if running is not None:
            return running.result()
        try:
            found = self._read(run)
            mine.set_result(found)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._running[run.id]
        return found

    def _read(self, run: Run) -> TaskStates:
        """Read the states unless they are fresh or can have no labels."""
        from usl_backend.report.states import known_states, read_states
        from usl_backend.report.words import moment
        from usl_backend.studio.client import StudioClient

        files = self._store.files(run.id)
        known = known_states(files)
        if run.pool or run.dry_run or not files.has_published() or time.time() - known.read_at < FRESH:
            return known
        try:
            with StudioClient.from_settings(self._host, attempts=1, timeout=STUDIO_SECONDS) as client:
                return read_states(run, files, client)
        except USLError as error:
            asked = f"as they were at {moment(known.read_at)}" if known.read_at else "not shown"
            return replace(known, note=f"Labels are {asked}: {error}")


def task_states(run: Run) -> TaskStates:
    """Return the states of a run's tasks, as `StateReadings.get` of the current app."""
    found = current_app.extensions.get(EXTENSION)
    if found is None:
        made = StateReadings(services().host, services().store)
        found = current_app.extensions.setdefault(EXTENSION, made)
    assert isinstance(found, StateReadings)
    return found.get(run)

"""Progress reports of a run; a report is also where a run is cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from usl_backend.errors import CancelledError

if TYPE_CHECKING:
    from usl_backend.progress import Progress, StageProgress
    from usl_backend.runs.store import RunStore

INTERVAL = 0.25
"""Minimum seconds between two reports of one step; the first and the last are always reported."""


class RunProgress:
    """Progress of a run's stages, written to the run's record.

    Every call checks `stop`; the record is accessed at most once per `INTERVAL`.

    Parameters
    ----------
    store
        Store of the run's record; None if the run is complete and its record must not change.
    run_id
        Id of the run.
    watch
        Receives the same reports, for progress bars.
    stop
        Set by a signal handler or another thread; the next report then raises.
    clock
        Monotonic time in seconds.
    """

    def __init__(
        self,
        store: RunStore | None,
        run_id: str,
        *,
        watch: StageProgress | None = None,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stop = stop or threading.Event()
        self._store = store
        self.run_id = run_id
        self._watch = watch
        self._clock = clock
        self._step: tuple[str, str] | None = None
        self._next = 0.0

    def stage(self, name: str) -> Progress:
        """Return the `Progress` of a stage; it raises `CancelledError` if the run has to stop."""
        return partial(self._report, name)

    def kept(self) -> None:
        """Record that a result is on disk, where the next attempt continues."""
        if self._store is not None:
            self._store.kept(self.run_id)

    def _report(self, stage: str, step: str, done: int, total: int, /) -> None:
        if self.stop.is_set():
            raise CancelledError(f"run {self.run_id} was stopped")
        now = self._clock()
        if (stage, step) == self._step and now < self._next and done < total:
            return
        self._step, self._next = (stage, step), now + INTERVAL
        if self._store is not None and not self._store.progress(self.run_id, stage, done, total, step):
            raise CancelledError(f"run {self.run_id} was cancelled")
        if self._watch is not None:
            self._watch(stage)(step, done, total)

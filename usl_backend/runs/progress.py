"""How a running run reports, and the one place where it is stopped."""

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
"""Seconds between two reports of one step; the first and the last of a step are always passed on."""


class RunProgress:
    """Gives each stage of a run its `Progress`, which writes to the run's record, throttled.

    Every call looks at `stop`; the record is read and written only as often as `INTERVAL` says.

    Parameters
    ----------
    store
        Holds the run's record; None where the run is complete and its record stays as it is.
    run_id
        The run.
    watch
        Told the same, for progress bars.
    stop
        Set from a signal handler or another thread: the next call raises.
    clock
        Seconds; monotonic.
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
        self._run_id = run_id
        self._watch = watch
        self._clock = clock
        self._step: tuple[str, str] | None = None
        self._next = 0.0

    def stage(self, name: str) -> Progress:
        """Return where the work of a stage reports; it raises `CancelledError` when the run has to stop."""
        return partial(self._report, name)

    def kept(self) -> None:
        """Note that something is complete and on disk: the next attempt begins behind it."""
        if self._store is not None:
            self._store.kept(self._run_id)

    def _report(self, stage: str, step: str, done: int, total: int, /) -> None:
        if self.stop.is_set():
            raise CancelledError(f"run {self._run_id} was asked to stop")
        now = self._clock()
        if (stage, step) == self._step and now < self._next and done < total:
            return
        self._step, self._next = (stage, step), now + INTERVAL
        if self._store is not None and not self._store.progress(self._run_id, stage, done, total, step):
            raise CancelledError(f"run {self._run_id} was cancelled")
        if self._watch is not None:
            self._watch(stage)(step, done, total)

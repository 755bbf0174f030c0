"""Where a run is, told to its record and to whoever watches, and the one place where it is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from usl_backend.errors import CancelledError

if TYPE_CHECKING:
    from usl_backend.runs import Report, RunStore

INTERVAL = 0.25
"""Seconds between two reports of one step; the first and the last of a step are always passed on."""


class Progress:
    """A `runs.Report` that is throttled, and that raises `CancelledError` when the run has to stop.

    Every call checks `stop`; the record is read and written only as often as `INTERVAL` says.

    Parameters
    ----------
    store
        Holds the run's record.
    run_id
        The run.
    watch
        Told the same, for a progress bar.
    stop
        Set from a signal handler or another thread: the next call raises.
    clock
        Seconds; monotonic.
    """

    def __init__(
        self,
        store: RunStore,
        run_id: str,
        *,
        watch: Report | None = None,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stop = stop or threading.Event()
        self._store = store
        self._run_id = run_id
        self._watch = watch
        self._clock = clock
        self._step: tuple[str, str | None] | None = None
        self._next = 0.0

    def __call__(self, stage: str, done: int, total: int, step: str | None = None) -> None:
        """Report; see `runs.Report`.

        Raises
        ------
        CancelledError
            The run was cancelled, or its process was asked to stop.
        """
        if self.stop.is_set():
            raise CancelledError(f"run {self._run_id} was asked to stop")
        now = self._clock()
        if (stage, step) == self._step and now < self._next and done < total:
            return
        self._step, self._next = (stage, step), now + INTERVAL
        if not self._store.progress(self._run_id, stage, done, total, step):
            raise CancelledError(f"run {self._run_id} was cancelled")
        if self._watch is not None:
            self._watch(stage, done, total, step)

    def kept(self) -> None:
        """Say that something was completed and kept on disk: the next attempt begins behind it."""
        self._store.kept(self._run_id)

    def of(self, stage: str, step: str | None = None) -> Callable[[int, int], None]:
        """The same for a part that only counts: a function of `(done, total)`."""
        return lambda done, total: self(stage, done, total, step)

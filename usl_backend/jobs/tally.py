"""Count a run's requests to Label Studio and store the counts periodically; `web/metrics.py` exposes them."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from usl_backend.errors import RunError
from usl_backend.runs.counters import Count

if TYPE_CHECKING:
    from usl_backend.runs import RunStore

BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency buckets, in seconds; slower requests count as "+Inf"."""
_EVERY: Final = 10.0
"""Seconds between two commits; a killed process loses at most the counts of this interval."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


class Tally:
    """Request counts of one process; thread-safe.

    Parameters
    ----------
    store
        Database the counts are added to.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._sums: Counter[_Key] = Counter()
        self._lock = threading.Lock()
        self._written = time.monotonic()

    def request(self, *, method: str, status: int, seconds: float, attempt: int) -> None:
        """Count a request to Label Studio.

        Parameters
        ----------
        method
            HTTP method.
        status
            HTTP status; 0 if no response came.
        seconds
            Time to the response headers, or to the failure.
        attempt
            0 for the first try of a request.
        """
        place = bisect_left(BOUNDS, seconds)
        bound = str(BOUNDS[place]) if place < len(BOUNDS) else "+Inf"
        with self._lock:
            self._sums["studio_requests", (("method", method), ("status", str(status)))] += 1
            self._sums["studio_latencies", (("le", bound),)] += 1
            self._sums["studio_seconds", ()] += seconds  # type: ignore[assignment]  # a sum may be a float
            self._sums["studio_retries", ()] += attempt > 0
            due = time.monotonic() > self._written + _EVERY
        if due:
            self.close()

    def close(self) -> None:
        """Store the remaining counts; if that fails they are dropped, so that no run fails for it."""
        with suppress(RunError):
            self.flush()

    def flush(self) -> None:
        """Store the counts since the last flush.

        Raises
        ------
        RunError
            The data directory cannot be written; the counts are kept for the next flush.
        """
        with self._lock:
            counts = [Count(name, value, dict(labels)) for (name, labels), value in self._sums.items()]
            self._store.add_counts(counts)
            self._sums.clear()
            self._written = time.monotonic()

"""Thread dispatcher that serves urgent requests first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from waitress.task import ThreadedTaskDispatcher

if TYPE_CHECKING:
    from waitress.channel import HTTPChannel

URGENT: Final = frozenset({"/health", "/livez"})
"""Paths whose clients time out after a second and whose response is cheap."""


class UrgentFirst(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """Waitress's thread pool, with urgent requests at the front of the queue, before 200 Start Trainings if need be.

    A backend that responds to /health too late is shown as disconnected in Label Studio.
    """

    def add_task(self, task: HTTPChannel | Any) -> None:
        """Queue a channel with a new request."""
        requests = getattr(task, "requests", ())
        if not requests or getattr(requests[0], "path", "") not in URGENT:
            super().add_task(task)
            return
        with self.lock:
            self.queue.appendleft(task)
            self.queue_cv.notify()

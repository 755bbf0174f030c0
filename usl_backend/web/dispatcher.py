"""Which waiting request a thread of the server takes next. How a request is answered is not decided here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from waitress.task import ThreadedTaskDispatcher

if TYPE_CHECKING:
    from waitress.channel import HTTPChannel

URGENT: Final = frozenset({"/health", "/livez"})
"""Paths whose caller gives up after a second and whose answer costs nothing."""


class UrgentFirst(ThreadedTaskDispatcher):  # type: ignore[misc]  # waitress has no types
    """Waitress's own threads, but for urgent requests the front of the queue: two hundred Start Trainings wait behind.

    A backend that answers /health late is shown as disconnected in Label Studio.
    """

    def add_task(self, task: HTTPChannel | Any) -> None:
        """Queue a channel whose next request has arrived."""
        requests = getattr(task, "requests", ())
        if not requests or getattr(requests[0], "path", "") not in URGENT:
            super().add_task(task)
            return
        with self.lock:
            self.queue.appendleft(task)
            self.queue_cv.notify()

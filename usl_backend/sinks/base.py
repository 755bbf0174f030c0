"""The `Sink` protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usl_backend.instances import Pool, Queue
    from usl_backend.progress import Progress
    from usl_backend.runs.published import Published
    from usl_backend.runs.summary import Summary
    from usl_backend.selection.base import Selection
    from usl_backend.sinks.changes import Changes


class Sink(Protocol):
    """Destination of a run's picks: a project's queue, a table, or new tasks in a project."""

    def changes(self, tasks: Sequence[int]) -> Changes:
        """Look up instances at the destination before they are published there: those that cannot be queued any more.

        Raises
        ------
        InputError
            An instance is not what the run read.
        """

    def publish(self, queue: Queue, progress: Progress) -> Published:
        """Publish a queue, or in a dry run only return what would be published; can be repeated when interrupted.

        Raises
        ------
        USLError
            Publishing failed; a partly written queue never takes effect.
        """

    def complete(self, published: Published, pool: Pool, selection: Selection) -> None:
        """Write the files that accompany the published queue, unless they exist."""

    def describe(self, summary: Summary, published: Published) -> Summary:
        """Add the destination of the picks to a summary."""

    def versions(self) -> Mapping[str, str]:
        """Return the versions of the external software that holds the queue."""

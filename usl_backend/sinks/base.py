"""What a run asks of the place that its picks go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.instances import Pool, Queue
    from usl_backend.progress import Progress
    from usl_backend.runs.published import Published
    from usl_backend.runs.summary import Summary
    from usl_backend.selection.base import Selection


class Sink(Protocol):
    """Where the picks of a run go: a project's queue, a table, or tasks made for them in a project."""

    def publish(self, queue: Queue, progress: Progress) -> Published:
        """Publish a queue; in a dry run only say what would be published. May be repeated after an interruption.

        Raises
        ------
        USLError
            It cannot be published; nothing half-written is in force.
        """

    def complete(self, published: Published, pool: Pool, selection: Selection) -> None:
        """Write what belongs beside the published queue, unless it is there."""

    def describe(self, summary: Summary, published: Published) -> Summary:
        """Add to a summary where the picks went."""

    def versions(self) -> Mapping[str, str]:
        """Versions of the outside software that holds the queue."""

"""Protocol by which long-running work reports progress and is cancelled."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Progress callback of long-running work, called about every second or more often.

    The callback may raise `CancelledError` to stop the work; completed parts are kept.
    """

    def __call__(self, step: str, done: int, total: int, /) -> None:
        """Report progress.

        Parameters
        ----------
        step
            Phrase shown to users, such as "writing the queue".
        done, total
            Completed and total units of this step; a total of 0 means unknown.
        """


class StageProgress(Protocol):
    """Factory of the `Progress` of each stage of a run."""

    def __call__(self, stage: str, /) -> Progress:
        """Return the `Progress` of a stage."""


def ignore(step: str, done: int, total: int, /) -> None:
    """Discard the report."""

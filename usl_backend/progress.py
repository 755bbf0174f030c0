"""The one protocol by which long work tells how far it is, and by which it is stopped."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by long work, at least about every second.

    Whoever is called may raise `CancelledError` to stop the work; what is complete by then stays.
    """

    def __call__(self, step: str, done: int, total: int, /) -> None:
        """Report.

        Parameters
        ----------
        step
            A phrase for people: "writing the queue".
        done, total
            Units of this step; a total of 0 is unknown.
        """


class StageProgress(Protocol):
    """Gives a `Progress` for each stage of a run."""

    def __call__(self, stage: str, /) -> Progress:
        """Return where the work of a stage reports."""


def ignore(step: str, done: int, total: int, /) -> None:
    """Report to nobody."""

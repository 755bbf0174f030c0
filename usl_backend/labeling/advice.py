"""Say in one sentence what to do next in a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from usl_backend.labeling.state import LabelingState

MORE: Final = 1.2
"""Factor by which labels have to grow until suggesting again pays."""


def next_step(state: LabelingState, *, suggested_from: int = 0) -> str:
    """Return the sentence.

    Parameters
    ----------
    state
        Everything but the sentence.
    suggested_from
        Labels that the last suggestions were made from and measured on; 0 if there were none.
    """
    if state.active:
        return f"Run {state.active} is at work: its queue comes into force when it is done."
    if not state.queue.run:
        if state.queue.kind == "foreign":
            return "The queue of another data directory is in force: start a run here, or go on over there."
        return "Start a run: it chooses the tasks to label first."
    if not state.queue.in_force and state.queue.kind not in ("active", "unknown"):
        return f"Repair the queue, which is not served as published: `{state.queue.remedy}`."
    picks, control = state.labeled["pick"], state.labeled["control"]
    if picks.left:
        return f"Label {picks.left} more {_plural(picks.left, 'pick')}."
    if control.left:
        return (
            f"Label {control.left} more {_plural(control.left, 'task')} of the control set: they tell what the "
            "labels are worth."
        )
    if state.waiting:
        verb = "waits" if state.waiting == 1 else "wait"
        return f"{state.waiting} new {_plural(state.waiting, 'task')} {verb}: press Extend to queue them."
    enough = sum(one.labeled > 0 for one in state.classes) > 1
    if enough and state.total_labeled >= MORE * max(suggested_from, 1):
        again = (
            " again, there are more labels now" if suggested_from else ": the labels say what the others are"
        )
        return f"Press Suggest{again}."
    return "Export the labels, or start another run for the next picks."


def _plural(count: int, word: str) -> str:
    """Return the word for so many."""
    return word if count == 1 else f"{word}s"

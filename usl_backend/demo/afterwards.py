"""After the picks: a control set, suggestions for all other tasks, and what was promised beside the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from usl_backend.demo import annotators
from usl_backend.errors import StudioError
from usl_backend.pipeline.control import draw_control
from usl_backend.progress import ignore
from usl_backend.settings import HostSettings
from usl_backend.suggesting.accuracy import accuracy_of, save_accuracy
from usl_backend.suggesting.compute import suggest_for_run
from usl_backend.suggesting.labels import read_run_labels
from usl_backend.suggesting.publish import fill_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from usl_backend.runs import RunStore
    from usl_backend.studio.client import StudioClient
    from usl_backend.suggesting.compute import RunSuggestions

CONTROLS: Final = 100
"""Tasks of the control set."""
IN_TURN: Final = 10
"""Control tasks that are asked for as annotators do; the others are labeled without asking, which is quicker."""
TARGET: Final = 0.8
"""Share of the accepted suggestions that is to be right; the demo's data allow no more with so few labels."""


@dataclass(frozen=True)
class Afterwards:
    """What the labels said about the other tasks.

    Attributes
    ----------
    controls, picks
        Tasks of the control set, and the picks among them.
    written
        Suggestions that annotators see now.
    estimate
        Share of the suggestions that is right, by the control set, in words.
    right
        The same in truth, 0 to 1.
    promise
        What could be accepted, in one sentence.
    accepted_right
        Share of the accepted ones that is right in truth; None if nothing could be accepted.
    """

    controls: int
    picks: int
    written: int
    estimate: str
    right: float
    promise: str
    accepted_right: float | None

    def lines(self) -> Iterator[str]:
        """Yield what happened, in four lines."""
        yield f"{self.controls} control tasks drawn and labeled, {self.picks} of them picks"
        yield f"{self.written:,} suggestions written, which annotators see filled in"
        yield f"{self.estimate}; in truth {100 * self.right:.1f} %"
        truth = (
            ""
            if self.accepted_right is None
            else f"; in truth {100 * self.accepted_right:.1f} % of them are right"
        )
        yield f"Promise: {self.promise}{truth}"


def go_on(
    run_id: str,
    *,
    store: RunStore,
    client: StudioClient,
    hired: Sequence[StudioClient],
    truth: Callable[[int], str],
    control: Mapping[str, str],
) -> Afterwards:
    """Draw a control set behind a labeled run, let annotators label it, and write suggestions for all others.

    Parameters
    ----------
    run_id
        Run in force whose picks are labeled.
    store, client
        Store of the run, and the administrator's client.
    hired
        Clients of the annotators, who take turns.
    truth
        Function from task id to class.
    control
        `from_name` and `to_name` of the label config's choices.

    Raises
    ------
    StudioError
        Annotators were served other tasks than those of the control set.
    """
    run = store.get(run_id)
    drawn = draw_control(run, tasks=CONTROLS, store=store, client=client, progress=ignore)
    behind = store.files(run_id).read_published().queue.of_role("control")
    project = run.project
    served = annotators.play(hired, project, turns=IN_TURN, choice=truth, control=control)
    if served != list(behind[:IN_TURN]):
        raise StudioError(
            "annotators were not served the control set right behind the picks; check that nobody else labels in the "
            "demo's project"
        )
    for turn, task in enumerate(behind[IN_TURN:]):
        result = {**control, "type": "choices", "value": {"choices": [truth(task)]}}
        hired[turn % len(hired)].annotate(task, [result])
    labels = read_run_labels(store, run, client=client)
    host = HostSettings.load({"model_dir": store.directory}, environ={})
    found = suggest_for_run(store, labels, host=host, client=client, target=TARGET)
    measured = accuracy_of(found)
    save_accuracy(store.files(run_id), measured)
    filled = fill_in(found, store=store, client=client, mark=True)
    return Afterwards(
        controls=drawn.size,
        picks=drawn.picks,
        written=filled.suggestions,
        estimate=next(measured.sentences(project=project)),
        right=_right(found, truth, accepted=False) or 0.0,
        promise=found.promise,
        accepted_right=_right(found, truth, accepted=True),
    )


def _right(found: RunSuggestions, truth: Callable[[int], str], *, accepted: bool) -> float | None:
    """Return the share of the suggestions that is right in truth; None if there are none."""
    taken = found.accepted if accepted else found.open
    classes, label = found.labels.classes, found.suggestions.label
    right = [
        classes[int(label[row])] == truth(int(task))
        for row, task in enumerate(found.labels.pool.ids.tolist())
        if taken[row]
    ]
    return sum(right) / len(right) if right else None

"""How accurate the suggestions of a run are, by its control set, and whether a target is reached."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from usl_backend.errors import InputError
from usl_backend.runs.artifacts import atomic_write
from usl_backend.sinks.control import counted
from usl_backend.suggesting.compute import suggest_for_run
from usl_backend.suggestions import Control, Share, accuracy, controls_needed, unseen_share, wilson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles, RunStore
    from usl_backend.settings import HostSettings
    from usl_backend.studio.client import StudioClient
    from usl_backend.suggesting.compute import RunSuggestions
    from usl_backend.suggesting.labels import RunLabels

NAME: Final = "accuracy.json"
SIZES: Final = (50, 100, 200)
"""Control labels of which it is said what they would buy."""
_ASSUMED: Final = 0.8
"""Share right for which the width of an interval is foretold."""


@dataclass(frozen=True)
class Purchase:
    """What labeling a control set would buy.

    Attributes
    ----------
    controls
        Control labels.
    half_width
        Half of the interval of the accuracy, 0 to 1, where about 80 % are right.
    promise
        Highest precision in whole percent at which suggestions can be accepted, if no control label speaks against
        them, 0 to 1.
    """

    controls: int
    half_width: float
    promise: float

    def __str__(self) -> str:
        """Say in one sentence what it buys."""
        return (
            f"{self.controls} labeled control tasks tell the accuracy to about ±{100 * self.half_width:.0f} points, "
            f"and can let suggestions be accepted at up to {100 * self.promise:.0f} %"
        )


@dataclass(frozen=True)
class RunAccuracy:
    """Accuracy of a run's suggestions; no figure is given without control labels.

    Attributes
    ----------
    run
        Id of the run.
    labels
        Labels that the suggestions are made from.
    drawn
        Tasks in the control set.
    controls
        Control labels by which the suggestions are judged; without a figure, those that there are.
    right
        Share of the suggestions that are right; None without control labels.
    unseen
        Share of the pool whose class no label has yet; None without control labels.
    target
        Share right that the team wants, 0 to 1; None if none was given.
    read_at
        Unix seconds at which the labels were read.
    notes
        What could not be measured and why, one sentence each.
    """

    run: str
    labels: int
    drawn: int
    controls: int
    right: Share | None
    unseen: Share | None
    target: float | None
    read_at: float
    notes: tuple[str, ...] = ()

    @property
    def reached(self) -> bool | None:
        """True where even the lower end of the interval is at the target; None without a target or a figure."""
        if self.target is None or self.right is None:
            return None
        return self.right.reached(self.target)

    def sentences(self, *, project: int) -> Iterator[str]:
        """Yield the lines for people: the figure or how to get one, unseen classes, the target.

        Parameters
        ----------
        project
            Label Studio's id, for the command that draws a control set.
        """
        if self.right is not None:
            strata = f", in {self.right.strata} parts by confidence" if self.right.strata > 1 else ""
            yield (
                f"{_percent(self.right)} of the suggestions are right, by {self.right.count} control labels{strata}; "
                f"they are made from {self.labels} labels"
            )
        elif self.controls:
            yield f"no figure: {self.controls} control labels judge no suggestion"
        elif self.drawn:
            yield f"no figure: none of the {self.drawn} tasks in the control set is labeled"
        else:
            yield (
                "no figure: there is no control set; "
                f"`usl-backend control {project} --tasks 100` draws one and queues it right behind the picks"
            )
        if self.right is None:
            yield from map(str, purchases())
        if self.unseen is not None:
            yield f"{_percent(self.unseen)} of the tasks are of a class that has no label yet"
        if self.target is not None:
            yield f"target {100 * self.target:.4g} %: {self.verdict}"

    @property
    def verdict(self) -> str:
        """Whether the target is reached; "" without a target."""
        if self.target is None:
            return ""
        if self.right is None:
            return "unknown without a figure"
        if self.reached:
            return "reached"
        return f"not yet: {100 * self.right.low:.0f}-{100 * self.right.high:.0f} %"

    def to_json(self) -> dict[str, Any]:
        """Return one JSON object, with what control labels would buy if there are none."""
        made: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        bought = [] if self.right is not None else purchases()
        return made | {
            "reached": self.reached,
            "verdict": self.verdict,
            "would_buy": _PURCHASES.dump_python(bought, mode="json"),
        }


def _percent(share: Share) -> str:
    """Share with its interval, in percent."""
    return f"{100 * share.share:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f} %)"


def purchases() -> list[Purchase]:
    """Return what labeling 50, 100 and 200 control tasks would buy."""
    found = []
    for size in SIZES:
        low, high = wilson(_ASSUMED, size)
        promise = max(percent for percent in range(50, 100) if controls_needed(percent / 100) <= size)
        found.append(Purchase(size, (high - low) / 2, promise / 100))
    return found


def measure_run(
    store: RunStore,
    labels: RunLabels,
    *,
    host: HostSettings,
    client: StudioClient,
    target: float | None = None,
    progress: Progress | None = None,
) -> RunAccuracy:
    """Estimate the accuracy of a run's suggestions, and store the result with the run.

    Parameters
    ----------
    store
        Store of the run's artifacts.
    labels
        The labels in its project.
    host, client
        As for `suggest_for_run`.
    target
        Share right that the team wants, 0 < target < 1.
    progress
        Receives the current step.

    Raises
    ------
    InputError
        The target is no share; or there are control labels, and the others are too few to make suggestions from.
    """
    if target is not None and not 0.0 < target < 1.0:
        raise InputError(f"target is {target}; give a share between 0 and 1, such as 0.9")
    if len(labels.controls):
        found = suggest_for_run(store, labels, host=host, client=client, progress=progress)
        measured = accuracy_of(found, target=target)
    else:
        measured = _nothing(labels, target=target)
    save_accuracy(store.files(labels.run.id), measured)
    return measured


def accuracy_of(found: RunSuggestions, *, target: float | None = None) -> RunAccuracy:
    """Estimate the accuracy of suggestions from the control labels that they were not made from."""
    labels, notes = found.labels, list(found.notes)
    right = unseen = None
    count = len(labels.controls)
    if found.control is not None:
        try:
            right = accuracy(found.suggestions, control=found.control)
            count = right.count
        except InputError:
            notes.append(
                "all labeled control tasks are picks, which teach the suggestions: label the others too"
            )
    place = {task: row for row, task in enumerate(labels.pool.ids.tolist())}
    known = {task for task, row in place.items() if labels.label[row] >= 0}
    seed = int(labels.run.settings.get("seed") or 0)
    rows = [place[task] for task in counted(labels.queue, known, seed=seed) if task in place]
    if right is not None:
        with contextlib.suppress(InputError):  # those that count so far are all of one class
            drawn = np.array(rows, dtype=np.int64)
            unseen = unseen_share(labels.given, control=Control(drawn, labels.label[drawn]))
    return RunAccuracy(
        run=labels.run.id,
        labels=sum(labels.counts.values()),
        drawn=len(labels.drawn),
        controls=count,
        right=right,
        unseen=unseen,
        target=target,
        read_at=time.time(),
        notes=tuple(notes),
    )


def _nothing(labels: RunLabels, *, target: float | None) -> RunAccuracy:
    """Return the result without control labels."""
    return RunAccuracy(
        run=labels.run.id,
        labels=sum(labels.counts.values()),
        drawn=len(labels.drawn),
        controls=0,
        right=None,
        unseen=None,
        target=target,
        read_at=time.time(),
    )


_ADAPTER: TypeAdapter[RunAccuracy] = TypeAdapter(RunAccuracy)
_PURCHASES: TypeAdapter[list[Purchase]] = TypeAdapter(list[Purchase])


def save_accuracy(files: RunFiles, measured: RunAccuracy) -> None:
    """Store the accuracy with the run, for its pages."""
    with atomic_write(files.directory / NAME) as stream:
        stream.write(_ADAPTER.dump_json(measured))


def load_accuracy(files: RunFiles) -> RunAccuracy | None:
    """Return the stored accuracy; None if it is missing or unreadable."""
    try:
        return _ADAPTER.validate_json((files.directory / NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None

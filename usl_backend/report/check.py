"""Evaluation of the picks with labels, on the control set only.

The control set is a uniform sample of the pool, so accuracy on it estimates that on the whole pool. The picks are
typical by selection: accuracy on them would be too optimistic for any model, and is never computed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from usl_backend.instances import FEWEST_CONTROLS
from usl_backend.report.record import DIMENSIONS, FOLDER, folder
from usl_backend.runs.artifacts import atomic_write
from usl_backend.selection.rows.preparation import fit_projection
from usl_backend.sinks.control import counted
from usl_backend.studio.label_config import parse
from usl_backend.studio.labels import classifier, read_labels
from usl_backend.suggestions import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.report.record import Report
    from usl_backend.runs import RunFiles
    from usl_backend.studio.client import StudioClient

NAME: Final = "labels.json"
FEWEST_PICKS: Final = 2
"""Labeled picks that a comparison needs."""
SPLITS: Final = 50
"""Number of random splits of the control set into random training labels and test tasks."""


@dataclass(frozen=True)
class ControlCheck:
    """Accuracies on the control set, of a 1-nearest-neighbor classifier, 0 to 1, higher = better.

    Attributes
    ----------
    picks, controls
        Number of labeled picks, and of labeled control tasks, drawn picks among them.
    accuracy, low, high
        Accuracy of all labeled picks on those control tasks, with a 95 % interval (Wilson).
    size
        Number of training labels on both sides of the comparison.
    picks_accuracy, random_accuracy
        Accuracy of the first `size` labeled picks, and of `size` random control tasks, both on the remaining
        control tasks; mean over the splits.
    better
        Share of the splits in which the picks are better, ties count half, 0 to 1.
    read_at
        Unix seconds at which the labels were read.
    """

    picks: int
    controls: int
    accuracy: float
    low: float
    high: float
    size: int
    picks_accuracy: float
    random_accuracy: float
    better: float
    read_at: float


@dataclass(frozen=True)
class TooFew:
    """Labels that a check lacks.

    Attributes
    ----------
    picks, controls
        Number of labeled picks, and of labeled control tasks that count.
    drawn
        Number of tasks in the control set.
    """

    picks: int
    controls: int
    drawn: int

    @property
    def missing_controls(self) -> int:
        """Number of control tasks that are still to be labeled."""
        return max(0, FEWEST_CONTROLS - self.controls)

    @property
    def missing_picks(self) -> int:
        """Number of picks that are still to be labeled."""
        return max(0, FEWEST_PICKS - self.picks)

    def __str__(self) -> str:
        """Say in one sentence what is missing."""
        if self.drawn < FEWEST_CONTROLS:
            return (
                f"the control set has {self.drawn} tasks, and a check takes {FEWEST_CONTROLS} with a label: "
                "draw more with `usl-backend control`"
            )
        lacking = []
        if self.missing_controls:
            lacking.append(
                f"{self.controls} of the {self.drawn} tasks in the control set count as labeled, "
                f"{self.missing_controls} more needed"
            )
        if self.missing_picks:
            lacking.append(f"{self.picks} picks are labeled, {self.missing_picks} more needed")
        return "too few labels for a check: " + "; ".join(lacking)


def check(
    rows: NDArray[np.floating[Any]],
    *,
    picks: NDArray[np.integer[Any]],
    controls: NDArray[np.integer[Any]],
    labels: Mapping[int, str],
    rng: np.random.Generator,
    read_at: float,
) -> ControlCheck | TooFew:
    """Evaluate the labeled picks on the labeled control set.

    A pick that was also drawn for the control set is tested without its own label.

    Parameters
    ----------
    rows : (n, d) float
        Normalized embeddings of the report.
    picks : (m,) integers
        Rows in pick order.
    controls : (c,) integers
        Rows of the control set that count (`sinks.control.counted`), including picks.
    labels
        Row -> class, for the rows that have one.
    rng
        Random generator of the splits.
    read_at
        Unix seconds at which the labels were read.

    Returns
    -------
    ControlCheck or TooFew
        `TooFew` if fewer than 20 control tasks, or fewer than 2 picks, have a label; its `drawn` is c.
    """
    taught = np.array([row for row in picks.tolist() if row in labels], dtype=np.int64)
    tested = np.array([row for row in controls.tolist() if row in labels], dtype=np.int64)
    if len(tested) < FEWEST_CONTROLS or len(taught) < FEWEST_PICKS:
        return TooFew(len(taught), len(tested), len(controls))
    names = {name: place for place, name in enumerate(sorted(set(labels.values())))}
    classes = np.full(len(rows), -1)
    for row in (*taught.tolist(), *tested.tolist()):
        classes[row] = names[labels[row]]

    def accuracy(teachers: NDArray[np.int64], pupils: NDArray[np.int64]) -> float:
        near = rows[pupils] @ rows[teachers].T
        near[pupils[:, None] == teachers] = -np.inf
        return float((classes[teachers[near.argmax(axis=1)]] == classes[pupils]).mean())

    size = min(len(taught), len(tested) // 2)
    ours, theirs = np.empty(SPLITS), np.empty(SPLITS)
    for split in range(SPLITS):
        order = rng.permutation(tested)
        ours[split] = accuracy(taught[:size], order[size:])
        theirs[split] = accuracy(order[:size], order[size:])
    overall = accuracy(taught, tested)
    low, high = wilson(overall, len(tested))
    return ControlCheck(
        picks=len(taught),
        controls=len(tested),
        accuracy=overall,
        low=low,
        high=high,
        size=size,
        picks_accuracy=float(ours.mean()),
        random_accuracy=float(theirs.mean()),
        better=float((ours > theirs).mean() + (ours == theirs).mean() / 2),
        read_at=read_at,
    )


def check_run(
    files: RunFiles, report: Report, client: StudioClient, *, project: int, seed: int
) -> ControlCheck | TooFew:
    """Read a project's labels, evaluate a run's picks with them, and store the result with the report.

    Parameters
    ----------
    files, report
        Artifacts and report of the run.
    client
        Label Studio client.
    project
        Label Studio's id.
    seed
        Seed of the run.

    Returns
    -------
    ControlCheck or TooFew
        Only a `ControlCheck` is stored.

    Raises
    ------
    InputError
        The project's labels are not one choice per task.
    StudioError
        Label Studio refuses the request or fails.
    """
    config = parse(client.project(project).label_config)
    labels = read_labels(client.labeled(project), config, control=classifier(config).name)
    pool, _ = files.read_pool()
    queue = files.read_published().queue
    place = {task: row for row, task in enumerate(pool.ids.tolist())}
    found = check(
        fit_projection(pool.embeddings, dimensions=DIMENSIONS).apply(pool.embeddings),
        picks=np.array([place[why.task] for why in report.whys]),
        controls=np.array(
            [place[task] for task in counted(queue, labels.by_task, seed=seed)], dtype=np.int64
        ),
        labels={place[task]: "/".join(choice) for task, choice in labels.by_task.items() if task in place},
        rng=np.random.default_rng([seed, 0xCE]),
        read_at=time.time(),
    )
    if isinstance(found, TooFew):
        return replace(found, drawn=len(queue.control_set))
    save_check(files, found)
    return found


def control_set(files: RunFiles) -> tuple[int, ...]:
    """Return the control set of a run, as it is now; empty if nothing was published."""
    return files.read_published().queue.control_set if files.has_published() else ()


_ADAPTER: TypeAdapter[ControlCheck] = TypeAdapter(ControlCheck)


def save_check(files: RunFiles, found: ControlCheck) -> None:
    """Store a check with the report."""
    with atomic_write(folder(files) / NAME) as stream:
        stream.write(_ADAPTER.dump_json(found))


def load_check(files: RunFiles) -> ControlCheck | None:
    """Return the stored check; None if it is missing or unreadable."""
    try:
        return _ADAPTER.validate_json((files.directory / FOLDER / NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None

"""Evaluation of the picks with labels, on the control set only.

The control set is a uniform sample of the pool, so accuracy on it estimates that on the whole pool. The picks are
typical by selection: accuracy on them would be too optimistic for any model, and is never computed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from usl_backend.evaluation.accuracy import nearest_neighbor_accuracy
from usl_backend.report.record import DIMENSIONS, FOLDER, folder
from usl_backend.runs.artifacts import atomic_write
from usl_backend.selection.rows.preparation import fit_projection
from usl_backend.studio.label_config import parse
from usl_backend.studio.labels import classifier, read_labels
from usl_backend.suggestions import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.report.record import Report
    from usl_backend.runs import RunFiles
    from usl_backend.studio.client import StudioClient

NAME: Final = "labels.json"
FEWEST: Final = 20
"""Minimum number of labeled control tasks."""
SPLITS: Final = 50
"""Number of random splits of the control set into random training labels and test tasks."""


@dataclass(frozen=True)
class ControlCheck:
    """Accuracies on the control set, of a 1-nearest-neighbor classifier, 0 to 1, higher = better.

    Attributes
    ----------
    picks, controls
        Number of labeled picks, and of labeled control tasks that are not picks.
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


def check(
    rows: NDArray[np.floating[Any]],
    *,
    picks: NDArray[np.integer[Any]],
    controls: NDArray[np.integer[Any]],
    labels: Mapping[int, str],
    rng: np.random.Generator,
    read_at: float,
) -> ControlCheck | None:
    """Evaluate the labeled picks on the labeled control set.

    Parameters
    ----------
    rows : (n, d) float
        Normalized embeddings of the report.
    picks : (m,) integers
        Rows in pick order.
    controls : (c,) integers
        Rows of the control set, including picks.
    labels
        Row -> class, for the rows that have one.
    rng
        Random generator of the splits.
    read_at
        Unix seconds at which the labels were read.

    Returns
    -------
    ControlCheck or None
        None if fewer than 20 control tasks that are not picks, or fewer than 2 picks, have a label.
    """
    taught = np.array([row for row in picks.tolist() if row in labels], dtype=np.int64)
    chosen = set(picks.tolist())
    tested = np.array(
        [row for row in controls.tolist() if row in labels and row not in chosen], dtype=np.int64
    )
    if len(tested) < FEWEST or len(taught) < 2:
        return None
    names = {name: place for place, name in enumerate(sorted(set(labels.values())))}

    def accuracy(teachers: NDArray[np.int64], pupils: NDArray[np.int64]) -> float:
        return nearest_neighbor_accuracy(
            rows[teachers],
            classes=np.array([names[labels[row]] for row in teachers.tolist()]),
            test_rows=rows[pupils],
            test_classes=np.array([names[labels[row]] for row in pupils.tolist()]),
        )

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
) -> ControlCheck | None:
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
        Seed of the splits of the control set.

    Returns
    -------
    ControlCheck or None
        None if there are too few labels.

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
    place = {task: row for row, task in enumerate(pool.ids.tolist())}
    found = check(
        fit_projection(pool.embeddings, dimensions=DIMENSIONS).apply(pool.embeddings),
        picks=np.array([place[why.task] for why in report.whys]),
        controls=np.array([place[task] for task in report.controls]),
        labels={place[task]: "/".join(choice) for task, choice in labels.by_task.items() if task in place},
        rng=np.random.default_rng([seed, 0xCE]),
        read_at=time.time(),
    )
    if found is not None:
        save_check(files, found)
    return found


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

"""Suggest a class for each task of a run, say how sure it is, and what can be promised. Nothing is written here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.cpus import usable_cpus
from usl_backend.errors import EncoderError, InputError
from usl_backend.settings import RunSettings
from usl_backend.studio.preannotations import ACCEPTED, SUGGESTED
from usl_backend.suggesting.labels import unoffered
from usl_backend.suggestions import Control, accept, calibrate, suggest
from usl_backend.suggestions.acceptance import DELTA, TARGET
from usl_backend.suggestions.calibration import FEWEST
from usl_backend.suggestions.graph import NEIGHBORS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles, RunStore
    from usl_backend.selection.base import Neighbors
    from usl_backend.settings import HostSettings
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.preannotations import Result
    from usl_backend.suggesting.labels import RunLabels
    from usl_backend.suggestions import Acceptance, Suggestions


@dataclass(frozen=True)
class RunSuggestions:
    """Suggested classes of a run's tasks.

    Attributes
    ----------
    labels
        The labels that they were made from.
    suggestions
        By row; classes are positions in `labels.classes`.
    confidence : (n,) float64
        0 to 1, higher = surer: the chance of being right where `calibrated`, else an order and no more.
    calibrated
        True with enough control labels.
    control
        The control labels; None where there are none, or where they cannot be used.
    acceptance
        What can be accepted at the target, and the sentence about it (`str`).
    open : (n,) bool
        Rows that get a suggestion: tasks that are still there, have no label, and offer the class.
    names
        True if the class names were used as labeled rows.
    notes
        What could not be done and why, one sentence each.
    """

    labels: RunLabels
    suggestions: Suggestions
    confidence: NDArray[np.float64]
    calibrated: bool
    control: Control | None
    acceptance: Acceptance
    open: NDArray[np.bool_]
    names: bool
    notes: tuple[str, ...]

    @property
    def shown(self) -> NDArray[np.bool_]:
        """Rows whose choice is filled in, (n,): open ones outside the control set, which is labeled unaided."""
        rows = self.open.copy()
        rows[self.labels.drawn] = False
        return rows

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Rows that are filled in and meet the promise, (n,)."""
        return self.acceptance.accepted & self.shown

    @property
    def fault(self) -> str:
        """Reason why nothing can be measured or promised with the control labels that there are; "" without one."""
        return control_of(self.labels)[1]

    @property
    def promise(self) -> str:
        """What can be accepted, or why the control labels that there are promise nothing."""
        return self.fault or str(self.acceptance)

    def result(self, row: int, *, accepted: bool) -> Result:
        """Return the prediction that fills in the choice of a row, marked as accepted or not."""
        task = self.labels.pool.ids[row]
        return self.labels.tag.result(
            self.labels.choices_of(int(self.suggestions.label[row])),
            region=f"{ACCEPTED if accepted else SUGGESTED}{task}",
        )

    @property
    def counts(self) -> dict[str, int]:
        """Filled-in suggestions by class, in the order of `labels.classes`; classes without one are left out."""
        numbers = np.bincount(self.suggestions.label[self.shown], minlength=len(self.labels.classes))
        return {
            name: count for name, count in zip(self.labels.classes, numbers.tolist(), strict=True) if count
        }


@dataclass(frozen=True)
class RunRows:
    """What `suggest` and `label_check` take beside labels.

    Attributes
    ----------
    neighbors
        The run's own neighbor search; None where it has none that fits.
    class_rows : (c, d) float32 or None
        Rows of the class names, for texts.
    """

    neighbors: Neighbors | None
    class_rows: NDArray[np.float32] | None

    @classmethod
    def of(cls, labels: RunLabels, files: RunFiles, *, host: HostSettings) -> RunRows:
        """Read them for a run."""
        return cls(_neighbors(files), _class_rows(labels, files, host=host))


def suggest_for_run(
    store: RunStore,
    labels: RunLabels,
    *,
    host: HostSettings,
    client: StudioClient,
    target: float = TARGET,
    delta: float = DELTA,
    progress: Progress | None = None,
) -> RunSuggestions:
    """Suggest a class for each task of a run's pool that has no label.

    Parameters
    ----------
    store
        Store of the run's artifacts.
    labels
        The labels in its project.
    host
        Directory of the encoders, for the class names of texts.
    client
        Label Studio client; asked only where choices come from the tasks.
    target, delta
        The promise, as for `suggestions.accept`.
    progress
        Receives the current step.

    Raises
    ------
    InputError
        There are no labels, or all are of one class.
    """
    run = labels.run.id
    counts = {name: count for name, count in labels.counts.items() if count}
    if not counts:
        held = len(labels.controls)
        what = f"only the control set has labels ({held})" if held else "no task has a label"
        raise InputError(f"run {run}: {what}; label some of its picks, of two classes at least")
    if len(counts) == 1:
        ((name, count),) = counts.items()
        raise InputError(
            f"run {run}: all {count} labels are of the class {name!r}; label at least one task of another class"
        )
    if progress is not None:
        progress("suggesting", 0, 0)
    rows = RunRows.of(labels, store.files(run), host=host)
    found = suggest(
        labels.pool.embeddings,
        labels.given,
        neighbors=rows.neighbors,
        class_rows=rows.class_rows,
        classes=len(labels.classes),
        seed=int(labels.run.settings.get("seed") or 0),
        workers=usable_cpus(),
    )
    notes = _notes(labels, named=rows.class_rows is not None)
    control, fault = control_of(labels)
    if fault:
        notes.append(fault)
    acceptance = accept(found, control=control, target=target, delta=delta)
    confidence, calibrated = found.confidence.astype(np.float64), False
    if control is not None and acceptance.controls >= FEWEST:
        confidence, calibrated = calibrate(found, control=control).confidence, True
    missing = unoffered(labels, client, found.label)
    free = labels.alive & (labels.label < 0) & ~labels.accepted
    is_open = free & ~missing
    if left := int((missing & free).sum()):
        notes.append(f"{left} tasks do not offer the class that they would be given, and get no suggestion")
    return RunSuggestions(
        labels=labels,
        suggestions=found,
        confidence=confidence,
        calibrated=calibrated,
        control=control,
        acceptance=acceptance,
        open=is_open,
        names=rows.class_rows is not None,
        notes=tuple(notes),
    )


def control_of(labels: RunLabels) -> tuple[Control | None, str]:
    """Return the control labels of a run; or None and, if they cannot be used, the reason."""
    rows = labels.controls
    if not len(rows):
        return None, ""
    try:
        return Control(rows, labels.label[rows]), ""
    except InputError:
        name = labels.classes[int(labels.label[rows[0]])]
        return None, (
            f"all {len(rows)} control labels are of the class {name!r}: nothing can be measured or promised with them"
        )


def _neighbors(files: RunFiles) -> Neighbors | None:
    """Return the neighbor search of the run, if it has enough neighbors."""
    if not files.has_neighbors():
        return None
    found = files.read_neighbors()
    return found if found.indices.shape[1] >= NEIGHBORS else None


def _class_rows(labels: RunLabels, files: RunFiles, *, host: HostSettings) -> NDArray[np.float32] | None:
    """Embed the class names by the run's encoder, for texts whose label config lists the classes."""
    inventory = files.read_inventory()
    texts = len(inventory.fields) == 1 and inventory.fields[0].modality == "text"
    if not texts or not labels.tag.lists_classes or len(labels.classes) < 2:
        return None
    from usl_backend.embedding.encoding import Encoding, load_encoding

    try:
        settings = RunSettings.from_json(labels.run.settings)
        choice = files.read_encoders(settings.encoder, inventory.fields)
        encoding = load_encoding(settings, inventory.fields, choice=choice, directory=host.encoders)
    except EncoderError:
        return None
    if not isinstance(encoding, Encoding) or encoding.key != _encoder_of(labels):
        return None
    rows: NDArray[Any] = encoding.encoders[0].encode(list(labels.classes))
    return rows.astype(np.float32, copy=False)


def _encoder_of(labels: RunLabels) -> str:
    """Return the key of the encoder that embedded the pool."""
    return "" if labels.run.summary is None else labels.run.summary.encoder.key


def _notes(labels: RunLabels, *, named: bool) -> list[str]:
    """Say what is left out and why."""
    notes = []
    if labels.conflicts:
        task = next(iter(labels.conflicts))
        notes.append(
            f"annotators disagree on {_tasks(len(labels.conflicts))} (first: {task}), which count as having no label"
        )
    for name, count in labels.retired.items():
        left = "is" if count == 1 else "are"
        notes.append(
            f"{_tasks(count)} labeled {name!r}, which the label config no longer has, {left} left out"
        )
    if labels.several:
        notes.append(f"{_tasks(labels.several)} with several classes at once are left out")
    counts = labels.counts
    if bare := [name for name, count in counts.items() if not count]:
        shown = ", ".join(bare[:5]) + (" ..." if len(bare) > 5 else "")
        notes.append(
            f"no pick has the class {shown}: "
            + ("only its name speaks for it" if named else "it is never suggested")
            if len(bare) == 1
            else f"no pick has these {len(bare)} classes: {shown}; "
            + ("only their names speak for them" if named else "they are never suggested")
        )
    if thin := [name for name, count in counts.items() if count == 1]:
        notes.append(
            f"{len(thin)} of {len(counts)} classes have one label only ({', '.join(thin[:5])}"
            f"{' ...' if len(thin) > 5 else ''}); more labels make their suggestions better"
        )
    gone = int((~labels.alive).sum())
    if gone:
        notes.append(f"{_tasks(gone)} of the run were deleted since")
    if labels.later:
        notes.append(
            f"{_tasks(labels.later)} came after the run and get no suggestion; `usl-backend select "
            f"{labels.project.id}` includes them"
        )
    if labels.pool.skipped:
        notes.append(f"{_tasks(len(labels.pool.skipped))} could not be read and get no suggestion")
    return notes


def _tasks(count: int) -> str:
    """1 -> 1 task, 2 -> 2 tasks."""
    return f"{count} task" + ("" if count == 1 else "s")

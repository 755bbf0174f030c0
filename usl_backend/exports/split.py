"""Data types of exports: `Row`, `Split` (labeled and unlabeled rows) and `Contents`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from usl_backend.errors import ExportError
from usl_backend.instances import Modality

RowRole = Literal["pick", "control", "reserve", "pool", "outside"]
"""pick, control, reserve: queued by the run; pool: not queued; outside: labeled, but not in the run's pool."""

Holds = Literal["class", "classes", "annotations"]
"""What is known of a labeled task: its class, its classes (several at once), or annotations without a class."""

Usage = Mapping[str, Any]
"""JSON-able usage hints of a format: flags and names that its consumer needs."""


@dataclass(frozen=True, slots=True)
class Row:
    """One task of an export.

    Attributes
    ----------
    index
        Position among all rows of the export, from 0; the unit of index files.
    task
        Label Studio's task id.
    source
        Address of the media, as in Label Studio.
    role
        Role of the task in the run.
    rank
        Rank in the queue of `run`, 0 first; None outside any.
    label
        Class of the task; None if it has none or several.
    file
        Path of the media inside the export, with `/`; None if the export only lists the source.
    key
        Id in the list of a pool outside Label Studio, whose `task` is the row; None for a project's task.
    more
        Addresses of the further media, where the task shows several; `file` is that of the first.
    labels
        Classes of the task.
    run
        Run that queued the task: the exported one, or an earlier one in which it was labeled; None if none did.
    """

    index: int
    task: int
    source: str
    role: RowRole = "pool"
    rank: int | None = None
    label: str | None = None
    file: str | None = None
    key: str | None = None
    more: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    run: str | None = None

    def __post_init__(self) -> None:
        if self.label is not None and not self.labels:
            object.__setattr__(self, "labels", (self.label,))

    @property
    def sources(self) -> tuple[str, ...]:
        """Addresses of all media that the task shows."""
        return (self.source, *self.more)

    @property
    def path(self) -> str:
        """Path to open: the file inside the export, else the source."""
        return self.source if self.file is None else self.file


@dataclass(frozen=True, slots=True)
class SuggestedRow(Row):
    """An unlabeled row with the class that was suggested for it in `label`; nobody gave it.

    Attributes
    ----------
    confidence
        0 to 1, higher = surer; the manifest says whether it is the chance of being right.
    accepted
        True if it is among the suggestions that meet the manifest's promise.
    """

    confidence: float = 0.0
    accepted: bool = False


@dataclass(frozen=True)
class Split:
    """The labeled and the unlabeled rows of an export.

    Attributes
    ----------
    labeled
        Rows with a class or, without classes, with an annotation; sorted by index.
    unlabeled
        Rows without a class, sorted by index; disjoint from `labeled` unless labeled rows are included here too.
    classes
        All classes, in the label config's order.
    manifest
        Provenance of the rows, JSON-able; written to manifest.json together with the rows.
    disputed
        Rows in neither part because annotators disagree; listed only in the manifest.
    holds
        What is known of labeled rows; "classes" by itself if a row has several.
    annotations
        Task -> its annotations as Label Studio holds them, in JSON; None if the class says everything.
    modality
        What the sources are: addresses of images, or texts.
    suggested
        Suggestions for rows of `unlabeled`, sorted by index; None if none were asked for.
    """

    labeled: tuple[Row, ...]
    unlabeled: tuple[Row, ...]
    classes: tuple[str, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    disputed: tuple[Row, ...] = ()
    holds: Holds = "class"
    annotations: Mapping[int, str] | None = None
    modality: Modality = "image"
    suggested: tuple[SuggestedRow, ...] | None = None

    def __post_init__(self) -> None:
        if self.holds == "class" and any(len(row.labels) > 1 for row in self.labeled):
            object.__setattr__(self, "holds", "classes")
        named = (*self.labeled, *(self.suggested or ()))
        unknown = sorted({name for row in named for name in row.labels} - set(self.classes))
        if unknown:
            raise ExportError(
                f"label {unknown[0]!r} is not among the classes ({', '.join(self.classes) or 'none'}); "
                "list every class that occurs"
            )

    def placed_suggestions(self) -> tuple[SuggestedRow, ...]:
        """Return the suggestions with their rows' files; those of rows that were left out are left out too."""
        files = {row.index: row.file for row in self.unlabeled}
        return tuple(
            replace(row, file=files[row.index]) for row in self.suggested or () if row.index in files
        )

    @property
    def places(self) -> dict[str, int]:
        """Class -> index, as used in index files and annotation files."""
        return {name: place for place, name in enumerate(self.classes)}


@dataclass(frozen=True)
class Contents:
    """Contents of a written export as its consumer reads them.

    Attributes
    ----------
    labeled
        File (or source) and classes of each labeled row.
    unlabeled
        File (or source) of each unlabeled row.
    inside
        True if the files are inside the export, so their existence can be checked.
    suggested
        File (or source), class and confidence of each suggestion.
    """

    labeled: tuple[tuple[str, tuple[str, ...]], ...]
    unlabeled: tuple[str, ...]
    inside: bool
    suggested: tuple[tuple[str, str, float], ...] = ()


def including_labeled(unlabeled: Sequence[Row], labeled: Sequence[Row]) -> tuple[Row, ...]:
    """Merge the labeled rows, without their labels, into the unlabeled ones, sorted by index."""
    bare = [replace(row, label=None, labels=()) for row in labeled]
    return tuple(sorted([*unlabeled, *bare], key=lambda row: row.index))


def labeled_as(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return files with the one class of each as `Contents` has them."""
    return tuple((path, (label,)) for path, label in pairs)

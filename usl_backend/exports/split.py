"""Data types of exports: `Row`, `Split` (labeled and unlabeled rows) and `Contents`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from usl_backend.errors import ExportError

RowRole = Literal["pick", "control", "reserve", "pool", "outside"]
"""pick, control, reserve: queued by the run; pool: not queued; outside: labeled, but not in the run's pool."""

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
        Rank in the run's queue, 0 first; None outside it.
    label
        Class of the task, or None.
    file
        Path of the media inside the export, with `/`; None if the export only lists the source.
    key
        Id in the list of a pool outside Label Studio, whose `task` is the row; None for a project's task.
    more
        Addresses of the further media, where the task shows several; `file` is that of the first.
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

    @property
    def sources(self) -> tuple[str, ...]:
        """Addresses of all media that the task shows."""
        return (self.source, *self.more)

    @property
    def path(self) -> str:
        """Path to open: the file inside the export, else the source."""
        return self.source if self.file is None else self.file


@dataclass(frozen=True)
class Split:
    """The labeled and the unlabeled rows of an export.

    Attributes
    ----------
    labeled
        Rows with a class, sorted by index.
    unlabeled
        Rows without a class, sorted by index; disjoint from `labeled` unless labeled rows are included here too.
    classes
        All classes, in the label config's order.
    manifest
        Provenance of the rows, JSON-able; written to manifest.json together with the rows.
    disputed
        Rows in neither part because annotators disagree; listed only in the manifest.
    """

    labeled: tuple[Row, ...]
    unlabeled: tuple[Row, ...]
    classes: tuple[str, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    disputed: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted({str(row.label) for row in self.labeled} - set(self.classes))
        if unknown:
            raise ExportError(
                f"label {unknown[0]!r} is not among the classes ({', '.join(self.classes) or 'none'}); "
                "list every class that occurs"
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
        File (or source) and class of each labeled row.
    unlabeled
        File (or source) of each unlabeled row.
    inside
        True if the files are inside the export, so their existence can be checked.
    """

    labeled: tuple[tuple[str, str], ...]
    unlabeled: tuple[str, ...]
    inside: bool


def including_labeled(unlabeled: Sequence[Row], labeled: Sequence[Row]) -> tuple[Row, ...]:
    """Merge the labeled rows, without their labels, into the unlabeled ones, sorted by index."""
    bare = [replace(row, label=None) for row in labeled]
    return tuple(sorted([*unlabeled, *bare], key=lambda row: row.index))

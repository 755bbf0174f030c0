"""Labeled here, unlabeled there: what every export is made from. Nothing is read or written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from usl_backend.errors import ExportError

RowRole = Literal["pick", "control", "reserve", "pool", "outside"]
"""pick, control, reserve: queued by the run; pool: could have been chosen; outside: labeled, not in the run's pool."""

Usage = Mapping[str, Any]
"""JSON-able words of a format: flags and names that its consumer wants."""


@dataclass(frozen=True, slots=True)
class Row:
    """One task of an export.

    Attributes
    ----------
    index
        Position among all rows of the export, 0 first; what index files count in.
    task
        Label Studio's task id.
    source
        Address of its media, as Label Studio has it.
    role
        What the run made of it.
    rank
        Place in the run's queue, 0 first; None outside it.
    label
        Its class; None where it has none.
    file
        Where its media lies inside the export, with `/`; None where the export only lists it.
    key
        Its own id in the list of a pool outside Label Studio, where `task` is its row; None for a project's task.
    """

    index: int
    task: int
    source: str
    role: RowRole = "pool"
    rank: int | None = None
    label: str | None = None
    file: str | None = None
    key: str | None = None

    @property
    def path(self) -> str:
        """What a reader opens: the file inside the export, else the source."""
        return self.source if self.file is None else self.file


@dataclass(frozen=True)
class Split:
    """Which rows are labeled and which are not.

    Attributes
    ----------
    labeled
        Rows with a class, by index.
    unlabeled
        Rows without, by index; disjoint from `labeled` unless the labeled rows were asked for here too.
    classes
        Every class, in the label config's order.
    manifest
        Where the rows come from, JSON-able; written beside every export, with the rows themselves.
    disputed
        Rows in neither part, since annotators disagree; only the manifest names them.
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
                "give every class that occurs"
            )

    @property
    def places(self) -> dict[str, int]:
        """Class -> its position, which is what index files and annotation files name it by."""
        return {name: place for place, name in enumerate(self.classes)}


@dataclass(frozen=True)
class Contents:
    """What a format's consumer gets out of a written export.

    Attributes
    ----------
    labeled
        File (or source) and class of each labeled row.
    unlabeled
        File (or source) of each unlabeled row.
    inside
        Whether the files lie inside the export, so that they can be looked for.
    """

    labeled: tuple[tuple[str, str], ...]
    unlabeled: tuple[str, ...]
    inside: bool


def including_labeled(unlabeled: Sequence[Row], labeled: Sequence[Row]) -> tuple[Row, ...]:
    """Unlabeled rows with the labeled ones among them, by index, their labels left out."""
    bare = [replace(row, label=None) for row in labeled]
    return tuple(sorted([*unlabeled, *bare], key=lambda row: row.index))

"""Labeled here, unlabeled there: what every export is made from. Nothing is read or written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from usl_backend.errors import ExportError

Role = Literal["pick", "reserve", "pool", "outside"]
"""pick and reserve: queued by the run; pool: could have been chosen; outside: labeled, but not in the run's pool."""


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
    """

    index: int
    task: int
    source: str
    role: Role = "pool"
    rank: int | None = None
    label: str | None = None


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
        Where the rows come from, JSON-able; written beside every export.
    """

    labeled: tuple[Row, ...]
    unlabeled: tuple[Row, ...]
    classes: tuple[str, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted({str(row.label) for row in self.labeled} - set(self.classes))
        if unknown:
            raise ExportError(
                f"label {unknown[0]!r} is not among the classes ({', '.join(self.classes) or 'none'}); "
                "give every class that occurs"
            )


def including_labeled(unlabeled: Sequence[Row], labeled: Sequence[Row]) -> tuple[Row, ...]:
    """Unlabeled rows with the labeled ones among them, by index, their labels left out."""
    bare = [Row(row.index, row.task, row.source, row.role, row.rank) for row in labeled]
    return tuple(sorted([*unlabeled, *bare], key=lambda row: row.index))

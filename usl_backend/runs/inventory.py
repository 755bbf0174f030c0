"""Inventory of a pool, collected while listing it and stored with the instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from usl_backend.instances import EmbeddedField, Modality, Pool

VECTORS: Final = "vectors"
"""Modality, and encoder name, of a pool that provides its own embeddings."""


@dataclass(frozen=True)
class Listed:
    """Details that only a pool outside Label Studio has.

    Attributes
    ----------
    modality
        Modality of the rows; "vectors" if the pool provides embeddings.
    roots
        Folders under which its files may be read.
    passed_over
        Sentence about files that were ignored; "" if there are none.
    with_label
        Number of rows that have a label.
    guessed_encoding
        Encoding of a table's characters if it had to be guessed, else "".
    """

    modality: Modality | Literal["vectors"]
    roots: tuple[str, ...]
    passed_over: str
    with_label: int
    guessed_encoding: str = ""


@dataclass(frozen=True)
class Inventory:
    """A listed pool.

    Attributes
    ----------
    id, key, title
        Label Studio's project id, id with creation time, and title; 0, "" and the address for a pool outside
        Label Studio.
    classes
        Choices of the label config, in its order; empty if it names none.
    data_key
        Field of a task's data that represents the task and is embedded first.
    tasks
        Number of all tasks of the project, or rows of the list.
    annotated
        Number of them with an annotation, skipped ones included.
    fields
        Embedded fields, in order.
    labeled
        Ids of the annotated tasks among the instances; empty unless labels are kept.
    taken
        Pinned and excluded ids that are not among the instances because they have an annotation.
    skipped
        Id -> reason why there is no media to read.
    several
        Number of instances that show several images or texts in one field; their rows are means.
    regions
        True if annotators draw regions instead of giving each task a class.
    outside
        Details of a pool outside Label Studio; None for a project.
    """

    id: int = 0
    key: str = ""
    title: str = ""
    classes: tuple[str, ...] = ()
    data_key: str = ""
    tasks: int = 0
    annotated: int = 0
    fields: tuple[EmbeddedField, ...] = (EmbeddedField("image", "image", 1.0),)
    labeled: tuple[int, ...] = ()
    taken: tuple[int, ...] = ()
    skipped: Mapping[int, str] = field(default_factory=dict)
    several: int = 0
    regions: bool = False
    outside: Listed | None = None

    @property
    def brings_vectors(self) -> bool:
        """True if the pool provides its embeddings, so nothing is encoded."""
        return self.outside is not None and self.outside.modality == VECTORS

    def unread(self, pool: Pool) -> dict[int, str]:
        """Return id -> reason for unlabeled instances that could not be read while listing or embedding."""
        labeled = set(self.labeled)
        return {**self.skipped, **{one: why for one, why in pool.skipped.items() if one not in labeled}}

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON values."""
        made: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        if self.outside is None:
            del made["outside"]
        if not self.regions:
            del made["regions"]
        if not self.taken:
            del made["taken"]
        return made

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Inventory:
        """Inverse of `to_json`."""
        return _ADAPTER.validate_python(values)


_ADAPTER = TypeAdapter(Inventory)

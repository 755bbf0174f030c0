"""What a run learned of its pool while listing it; stored with the instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from usl_backend.instances import EmbeddedField, Modality, Pool

VECTORS: Final = "vectors"
"""Stands for a modality, and for an encoder's name, where the pool brings its embeddings."""


@dataclass(frozen=True)
class Listed:
    """What only a pool outside Label Studio has.

    Attributes
    ----------
    modality
        Of its rows; "vectors" where it brings embeddings.
    roots
        Folders below which its files may be read.
    passed_over
        Files that were not taken in, in words; "" where there are none.
    with_label
        Rows that have a label.
    """

    modality: Modality | Literal["vectors"]
    roots: tuple[str, ...]
    passed_over: str
    with_label: int


@dataclass(frozen=True)
class Inventory:
    """A pool as it was listed.

    Attributes
    ----------
    id, key, title
        Label Studio's id, id with creation time, and title of the project; 0, "" and the address of a pool outside
        Label Studio.
    classes
        Choices of the label config, in its order; empty where it names none.
    data_key
        Field of a task's data that is shown for it, and embedded first.
    tasks
        Tasks in the project, or rows of the list, all of them.
    annotated
        How many of them have an annotation, skipped ones included.
    fields
        The fields that are embedded, in order.
    labeled
        Ids of the annotated tasks among the instances; empty unless labels are kept.
    skipped
        Id -> why there is no media to read.
    outside
        More of a pool outside Label Studio; None for a project.
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
    skipped: Mapping[int, str] = field(default_factory=dict)
    outside: Listed | None = None

    @property
    def brings_vectors(self) -> bool:
        """Whether its embeddings come with it, so that nothing is encoded."""
        return self.outside is not None and self.outside.modality == VECTORS

    def unread(self, pool: Pool) -> dict[int, str]:
        """Id -> reason of the unlabeled instances that could not be read, before or while they were embedded."""
        labeled = set(self.labeled)
        return {**self.skipped, **{one: why for one, why in pool.skipped.items() if one not in labeled}}

    def to_json(self) -> dict[str, Any]:
        """All attributes as JSON values."""
        made: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        if self.outside is None:
            del made["outside"]
        return made

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Inventory:
        """Inverse of `to_json`."""
        return _ADAPTER.validate_python(values)


_ADAPTER = TypeAdapter(Inventory)

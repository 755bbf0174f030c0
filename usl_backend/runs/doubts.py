"""Record of the labels of a run's tasks that look wrong, as found last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from usl_backend.runs.artifacts import atomic_write

if TYPE_CHECKING:
    from usl_backend.runs.artifacts import RunFiles

NAME: Final = "doubts.json"


@dataclass(frozen=True)
class Doubt:
    """A label that the others speak against.

    Attributes
    ----------
    task
        Task id.
    label, likely
        Its class, and the class that the other labels suggest.
    doubt
        0 to 1, higher = more likely wrong; an order, not a chance.
    """

    task: int
    label: str
    likely: str
    doubt: float


@dataclass(frozen=True)
class Dispute:
    """A task whose annotators disagree.

    Attributes
    ----------
    task
        Task id.
    labels
        The classes that they gave.
    likely
        The class that the agreed labels of other tasks suggest; it settles nothing.
    """

    task: int
    labels: tuple[str, ...]
    likely: str


@dataclass(frozen=True)
class Doubts:
    """Labels of a run's tasks that are worth a second look.

    Attributes
    ----------
    run
        Id of the run.
    doubts
        Labels whose task looks more like another class, most doubtful first.
    disputes
        Tasks whose annotators disagree, in any case without a label.
    judged, unjudged
        Number of labels that were judged, and of those that are the only ones of their class.
    reason
        Why there are no doubts to show; "" if there could be some.
    read_at
        Unix seconds at which the labels were read.
    """

    run: str
    doubts: tuple[Doubt, ...]
    disputes: tuple[Dispute, ...]
    judged: int
    unjudged: int
    reason: str
    read_at: float

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON values."""
        made: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return made


_ADAPTER: TypeAdapter[Doubts] = TypeAdapter(Doubts)


def write_doubts(files: RunFiles, found: Doubts) -> None:
    """Replace the record."""
    with atomic_write(files.directory / NAME) as stream:
        stream.write(_ADAPTER.dump_json(found))


def read_doubts(files: RunFiles) -> Doubts | None:
    """Return the record; None if it is missing or unreadable."""
    try:
        return _ADAPTER.validate_json((files.directory / NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None

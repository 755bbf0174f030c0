"""The published queue of a run and its JSON form. Publishing itself is in `sinks`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from usl_backend.instances import Place, Queue

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Verified:
    """Result of asking Label Studio for its next task after publishing.

    Attributes
    ----------
    ok
        The first pick is served first, as far as can be checked.
    outcome
        Machine-readable word.
    detail
        Sentence for users.
    """

    ok: bool
    outcome: str
    detail: str


@dataclass(frozen=True)
class Destination:
    """Label Studio project into which the picks of a pool were imported.

    Attributes
    ----------
    id, key, title
        Label Studio's id, id with creation time, and title.
    data_key
        Field of a task's data that holds the media.
    """

    id: int
    key: str
    title: str
    data_key: str


@dataclass(frozen=True)
class Published:
    """A published queue.

    Attributes
    ----------
    queue
        The places of the queue.
    model_version
        Model version of the queue's predictions in Label Studio; None for a dry run or a pool outside it.
    view_id
        Id of the tab that shows the queue.
    carried_over
        Tasks whose pre-annotation by another model was copied into the queue's predictions.
    warnings
        One sentence each.
    verified
        Result of the check that Label Studio keeps the order; None if nothing was written.
    """

    queue: Queue
    model_version: str | None = None
    view_id: int | None = None
    carried_over: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    verified: Verified | None = None

    def with_prediction(self, extended: Iterable[int] = ()) -> frozenset[int]:
        """Return the tasks that got a prediction in Label Studio; `extended` are those queued behind since."""
        return frozenset((*self.queue.tasks, *self.carried_over, *extended))


@dataclass(frozen=True)
class PublishedPool(Published):
    """The published queue of a pool outside Label Studio.

    Attributes
    ----------
    imported
        Project into which the picks were imported; None if they were not.
    """

    imported: Destination | None = None


def queue_to_json(queue: Queue) -> list[dict[str, Any]]:
    """Convert places to JSON: "task" (the instance id), "rank", "role"; if set, also "control" and "studio_task"."""
    made: list[dict[str, Any]] = adapter_of(tuple[Place, ...]).dump_python(
        queue.places, mode="json", by_alias=True, exclude_defaults=True
    )
    return made


def published_to_json(published: Published) -> dict[str, Any]:
    """Convert to one JSON object."""
    kind: Any = type(published)
    rest = adapter_of(kind).dump_python(published, mode="json", exclude={"queue"})
    return {"queue": queue_to_json(published.queue), **rest}


def published_from_json(values: Mapping[str, Any]) -> Published:
    """Inverse of `published_to_json`."""
    places = adapter_of(tuple[Place, ...]).validate_python(values.get("queue", ()))
    kind = PublishedPool if "imported" in values else Published
    found: Published = adapter_of(kind).validate_python({**values, "queue": Queue(places)})
    return found


@cache
def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """Make the adapter of a type when it is needed first: that takes longer than the import of this file."""
    return TypeAdapter(kind)

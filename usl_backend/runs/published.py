"""What a run published, as a file of its directory. How publishing is done is in `sinks`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from usl_backend.instances import Place, Queue

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Verified:
    """Outcome of asking Label Studio for its next task after publishing.

    Attributes
    ----------
    ok
        The first pick is served first, as far as can be seen.
    outcome
        One word for programs.
    detail
        One sentence for people.
    """

    ok: bool
    outcome: str
    detail: str


@dataclass(frozen=True)
class Destination:
    """Project that the picks of a pool outside Label Studio were imported to.

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
    """A queue and how it was published.

    Attributes
    ----------
    queue
        All places.
    model_version
        Version under which Label Studio holds the queue; None for a dry run or a pool outside it.
    view_id
        The tab that shows it.
    carried_over
        Tasks whose pre-annotation of another model was copied along.
    warnings
        One sentence each.
    verified
        Whether the order was seen to be kept; None where nothing was written.
    """

    queue: Queue
    model_version: str | None = None
    view_id: int | None = None
    carried_over: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    verified: Verified | None = None


@dataclass(frozen=True)
class PublishedPool(Published):
    """The same for a pool outside Label Studio.

    Attributes
    ----------
    imported
        Where its picks became tasks; None where they did not.
    """

    imported: Destination | None = None


_PLACES = TypeAdapter(tuple[Place, ...])
_PROJECT, _POOL = TypeAdapter(Published), TypeAdapter(PublishedPool)


def queue_to_json(queue: Queue) -> list[dict[str, Any]]:
    """Places as JSON objects: "task" (the instance id), "rank", "role"; where they apply "control", "studio_task"."""
    made: list[dict[str, Any]] = _PLACES.dump_python(
        queue.places, mode="json", by_alias=True, exclude_defaults=True
    )
    return made


def published_to_json(published: Published) -> dict[str, Any]:
    """Everything as one JSON object."""
    adapter: TypeAdapter[Any] = _POOL if isinstance(published, PublishedPool) else _PROJECT
    rest = adapter.dump_python(published, mode="json", exclude={"queue"})
    return {"queue": queue_to_json(published.queue), **rest}


def published_from_json(values: Mapping[str, Any]) -> Published:
    """Inverse of `published_to_json`."""
    places = _PLACES.validate_python(values.get("queue", ()))
    adapter = _POOL if "imported" in values else _PROJECT
    return adapter.validate_python({**values, "queue": Queue(places)})

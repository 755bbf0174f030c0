"""Verify a published queue: request the next task as an annotator does, and undo the request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from usl_backend.errors import StudioError, StudioTroubleError, StudioUnreachableError
from usl_backend.studio.labels import annotator_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import Project

Outcome = Literal["first", "later", "elsewhere", "own task", "nothing"]


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of the next-task call after publishing.

    Attributes
    ----------
    outcome
        `first`: rank 0. `later`: a pick or reserve task of a higher rank, because the earlier ones are open or
        labeled. `elsewhere`: a task that was not chosen. `own task`: a task that the token's user opened before.
        `nothing`: no task is left for that user.
    task, rank
        The task served and its rank; None if there is none.
    detail
        One sentence for the user.
    """

    outcome: Outcome
    task: int | None
    rank: int | None
    detail: str

    @property
    def ok(self) -> bool:
        """False if Label Studio served a task outside the queue."""
        return self.outcome != "elsewhere"


def verify_first(
    client: StudioClient,
    project: Project,
    ranked: Sequence[int],
    *,
    since: float | None = None,
) -> Verification:
    """Request the next task from Label Studio, as an annotator does, and release it.

    The call locks the task for the token's user for 24 hours, and Label Studio releases a lock only when that user
    submits or skips. Therefore the lock is released by a skip that is deleted at once: for a fraction of a second
    another annotator would get the next rank instead, and the project's webhooks see one annotation come and go.

    Parameters
    ----------
    ranked : (m,) task ids
        Picks and reserve in rank order.
    since
        When an earlier call began that was killed midway, by Label Studio's clock (unix s): a lock or a skip that it
        left on the first pick is then removed. Older skips are somebody's decision and stay. None: there was none.
    """
    if since is not None:
        _take_back_skip(client, ranked[0], since)
    served = client.next_task(project.id)
    if served is None:
        return Verification("nothing", None, None, "Label Studio has no task left for the token's user")
    task, rule = int(served["id"]), str(served.get("queue") or "")
    rank = ranked.index(task) if task in ranked else None
    if "Task lock" in rule and not (since is not None and rank == 0):
        # Do not release it: the token's user may be labeling it.
        detail = f"the token's user already has task {task} open, so the order could not be verified"
        return Verification("own task", task, rank, detail)
    release(client, task)
    if rank == 0:
        return Verification("first", task, 0, f"task {task}, the first pick, is served first")
    if rank is not None:
        detail = f"task {task} (rank {rank}) is served next: those before it are open or labeled"
        return Verification("later", task, rank, detail)
    reason = (
        "tasks that somebody has started come first while the project asks for several annotations"
        if project.maximum_annotations > 1
        else "project members or another rule of this Label Studio override the queue"
    )
    return Verification(
        "elsewhere", task, None, f"task {task}, which was not chosen, is served first: {reason}"
    )


def _take_back_skip(client: StudioClient, task: int, since: float) -> None:
    """Delete the skip that an earlier call made on a task since a time, if there is one.

    Skips in Label Studio's pages carry the seconds that they took; those of this package do not.
    """
    me = client.user_id()
    for annotation in client.annotations(task):
        own = annotator_of(annotation) == me
        bare = annotation.get("was_cancelled") and not annotation.get("result")
        timed = annotation.get("lead_time") is not None
        if own and bare and not timed and _moment(annotation.get("created_at")) >= since:
            client.delete_annotation(int(annotation["id"]))


def _moment(text: str | None) -> float:
    """Return a time of Label Studio in unix s; 0 if there is none."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def release(client: StudioClient, task: int) -> None:
    """Release the lock of the token's user on a task."""
    try:
        annotation = client.annotate(task, [], was_cancelled=True)
    except (StudioTroubleError, StudioUnreachableError):
        raise
    except StudioError:
        # Some tasks cannot be skipped; an empty annotation releases the lock as well.
        annotation = client.annotate(task, [])
    client.delete_annotation(annotation)

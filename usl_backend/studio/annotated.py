"""A project's annotations kept up to date by asking only for tasks that have changed; `labels.py` says what they mean.

A full export runs at some 600 tasks a second and lists all of them; what changed since a moment ago is one request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from usl_backend.errors import StudioError
from usl_backend.studio.records import LabeledTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usl_backend.studio.client import StudioClient

PAGE: Final = 500
"""Tasks per request: more fail on SQLite where tasks show uploaded files."""
MANY: Final = 2_000
"""Changed tasks from which reading only the annotated ones is cheaper, for instance after an import."""
OVERLAP: Final = timedelta(seconds=15)
"""Read again each time: a change is dated before it can be seen."""
_INCLUDED: Final = "id,updated_at,created_at,annotations,result,completed_by,was_cancelled,ground_truth"
_CLASSES: Final = ("choices", "taxonomy", "rating", "selected")


@dataclass(frozen=True, slots=True)
class AnnotationCounts:
    """Numbers that Label Studio keeps for a project, without listing its tasks.

    Attributes
    ----------
    annotations, skips
        Submitted annotations and skips.
    """

    annotations: int
    skips: int


@dataclass
class AnnotatedTasks:
    """The annotated tasks of one project, as far as they were read.

    Attributes
    ----------
    project
        Label Studio's id.
    tasks
        Task id -> its annotations, reduced to what tells the class; skipped tasks too.
    """

    project: int
    tasks: dict[int, LabeledTask] = field(default_factory=dict)
    _since: datetime | None = None
    _given_up: AnnotationCounts | None = None

    def update(self, client: StudioClient) -> bool:
        """Read what has changed since the last call, everything at the first; return True if anything did.

        Raises
        ------
        StudioError
            Label Studio refuses a request or fails; what was read before stays.
        """
        before = dict(self.tasks)
        if self._since is None or not self._changed(client):
            self._whole(client)
        counts = read_counts(client, self.project)
        if counts != self.counts and counts != self._given_up:
            # For instance tasks were deleted, which dates nothing.
            self._whole(client)
            self._given_up = None if counts == self.counts else counts
        return self.tasks != before

    @property
    def counts(self) -> AnnotationCounts:
        """Annotations and skips of the tasks that were read."""
        skips = [bool(one.get("was_cancelled")) for task in self.tasks.values() for one in task.annotations]
        return AnnotationCounts(len(skips) - sum(skips), sum(skips))

    def _changed(self, client: StudioClient) -> bool:
        """Read the tasks dated since the last call; return False if these are too many."""
        assert self._since is not None
        # Label Studio answers a time without a fraction of a second with 500.
        start = (self._since - OVERLAP).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        item = {
            "filter": "filter:tasks:updated_at",
            "operator": "greater_or_equal",
            "type": "Datetime",
            "value": start,
        }
        for row in _rows(client, self.project, [item], most=MANY):
            if row is None:
                return False
            self._take(row)
        return True

    def _whole(self, client: StudioClient) -> None:
        """Read all annotated tasks anew."""
        items = [
            {"filter": f"filter:tasks:{name}", "operator": "greater", "type": "Number", "value": 0}
            for name in ("total_annotations", "cancelled_annotations")
        ]
        now = datetime.fromtimestamp(client.clock(), tz=UTC)
        rows = list(_rows(client, self.project, items))
        self.tasks.clear()
        for row in rows:
            assert row is not None
            self._take(row)
        self._since = max(self._since or now, now)

    def _take(self, row: Mapping[str, Any]) -> None:
        """Replace what is known of a task."""
        task = int(row["id"])
        annotations = tuple(_reduced(one) for one in row.get("annotations") or ())
        if annotations:
            self.tasks[task] = LabeledTask(task, {}, annotations)
        else:
            self.tasks.pop(task, None)
        dated = datetime.fromisoformat(str(row["updated_at"]))
        if self._since is not None:
            self._since = max(self._since, dated)


def read_counts(client: StudioClient, project: int) -> AnnotationCounts:
    """Return the numbers of annotations and skips that Label Studio counts itself."""
    raw = client.http.json("GET", f"/api/projects/{project}/")
    return AnnotationCounts(
        int(raw.get("total_annotations_number") or 0), int(raw.get("skipped_annotations_number") or 0)
    )


def annotator_names(client: StudioClient) -> dict[int, str]:
    """Return what to call each user: the name, else the e-mail address; empty if the token may not list them."""
    try:
        rows = client.http.json("GET", "/api/users/")
    except StudioError:
        return {}
    rows = rows if isinstance(rows, list) else rows.get("results", [])
    return {
        int(row["id"]): f"{row.get('first_name') or ''} {row.get('last_name') or ''}".strip()
        or str(row.get("email") or row.get("username") or "")
        for row in rows
    }


def _rows(
    client: StudioClient, project: int, items: list[dict[str, Any]], *, most: int | None = None
) -> Iterator[Mapping[str, Any] | None]:
    """Yield the tasks that match any of the filters with their annotations; one None if they are more than `most`."""
    query = json.dumps({"filters": {"conjunction": "or", "items": items}, "ordering": ["tasks:id"]})
    read, page = 0, 1
    while True:
        answer = client.http.json(
            "GET",
            "/api/tasks",
            params={
                "project": project,
                "query": query,
                "page": page,
                "page_size": PAGE,
                "fields": "all",
                "include": _INCLUDED,
                "resolve_uri": "false",
            },
        )
        rows, total = answer["tasks"], int(answer["total"])
        if most is not None and total > most:
            yield None
            return
        yield from rows
        read += len(rows)
        if not rows or read >= total:
            return
        page += 1


def _reduced(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an annotation without what says nothing about the task's class: regions may be long."""
    kept = ("id", "completed_by", "was_cancelled", "ground_truth", "created_at", "updated_at")
    regions = []
    for region in annotation.get("result") or ():
        value = region.get("value")
        value = value if isinstance(value, dict) else {}
        small = {name: region[name] for name in ("id", "from_name", "origin") if name in region}
        regions.append({**small, "value": {name: value[name] for name in _CLASSES if name in value}})
    return {**{name: annotation.get(name) for name in kept}, "result": regions}

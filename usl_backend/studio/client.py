"""Client for the Label Studio API: projects, tasks, exports and annotations in this package's types."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self

import requests

from usl_backend.errors import InputError, StudioError, StudioNotFoundError, StudioTroubleError
from usl_backend.studio import media_locations
from usl_backend.studio.records import LabeledTask, Project, Task
from usl_backend.studio.transport import ATTEMPTS, TokenKind, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from usl_backend.media import Location
    from usl_backend.progress import Progress
    from usl_backend.settings import HostSettings

logger = logging.getLogger(__name__)

TIMEOUT = 600.0
PAGE_SIZE = 5000
# On SQLite, Label Studio answers pages of more than about 990 uploaded files with 500 ("Expression tree is too large").
SMALL_PAGE_SIZE = 500
_READ_SIZE = 2**20
_LISTED: Mapping[str, Any] = {
    "fields": "task_only",
    "include": "id,data,total_annotations,cancelled_annotations",
    # Keep storage URLs as stored: signed ones differ in every listing.
    "resolve_uri": "false",
}


class StudioClient:
    """Client for one Label Studio with one user's token; safe to use from several threads.

    Parameters
    ----------
    url
        URL of Label Studio.
    api_key
        Legacy token or personal access token.
    timeout
        Longest wait for an answer, in seconds.
    documents_root
        Label Studio's local-files root as a path on this host, if it is mounted here.
    attempts
        Most times a request is sent if the failure may be temporary.
    browser_url
        Address at which browsers reach Label Studio, for links; by default `url`.

    Raises
    ------
    SettingsError
        The URL or the token is malformed. Nothing is sent yet.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = TIMEOUT,
        documents_root: Path | None = None,
        attempts: int = ATTEMPTS,
        browser_url: str = "",
    ) -> None:
        self.http = Transport(url, api_key, timeout=timeout, attempts=attempts, browser_url=browser_url)
        self.url, self.browser_url = self.http.url, self.http.browser_url
        self._documents_root = documents_root
        self._of_short_pages: set[int] = set()
        """Projects whose long pages have failed: Label Studio on SQLite does not list 1,000 uploads at once."""

    @classmethod
    def from_settings(
        cls,
        host: HostSettings,
        *,
        url: str | None = None,
        attempts: int = ATTEMPTS,
        timeout: float = TIMEOUT,
    ) -> Self:
        """Make a client from host settings; nothing is sent yet.

        Parameters
        ----------
        url
            URL given by the user; must be the configured one, so that the token never goes to another server.
        attempts, timeout
            As for the constructor.

        Raises
        ------
        InputError
            `url` is another server.
        SettingsError
            The configured URL or token is missing or malformed.
        """
        known = (host.label_studio_url, host.label_studio_host or host.label_studio_url)
        if url is not None and url.rstrip("/") not in known:
            raise InputError(
                f"the project is at {url}, but LABEL_STUDIO_URL is {host.label_studio_url};"
                f" set LABEL_STUDIO_URL={url} (and a token of that server)"
            )
        return cls(
            host.label_studio_url,
            host.api_key,
            documents_root=host.label_studio_local_files_document_root,
            attempts=attempts,
            timeout=timeout,
            browser_url=host.label_studio_host,
        )

    def __repr__(self) -> str:
        return f"StudioClient({self.url!r}, {self.http.token_kind} token)"

    def close(self) -> None:
        """Close the pooled connections."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def token_kind(self) -> TokenKind:
        """Kind of the configured token."""
        return self.http.token_kind

    def token_days_left(self, now: float) -> float | None:
        """Return the days from `now` (unix s) until a personal access token expires; None for legacy tokens."""
        expires = self.http.token_expires
        return None if expires is None else (expires - now) / 86_400

    def version(self) -> str:
        """Return Label Studio's release, such as `1.23.2`."""
        return str(self.http.json("GET", "/api/version", timeout=30).get("release", "unknown"))

    def clock(self) -> float:
        """Return the time by Label Studio's clock (unix s, whole seconds), which also dates what it stores."""
        stamp = self.http.request("GET", "/api/version", timeout=30).headers.get("Date", "")
        try:
            return parsedate_to_datetime(stamp).timestamp()
        except ValueError:
            return time.time()

    def whoami(self) -> str:
        """Return the e-mail address of the token's user.

        Raises
        ------
        StudioAuthError
            The token is refused.
        """
        return str(self.http.json("GET", "/api/current-user/whoami", timeout=30).get("email", ""))

    def user_id(self) -> int:
        """Return the id of the token's user."""
        return int(self.http.json("GET", "/api/current-user/whoami", timeout=30)["id"])

    def project(self, project_id: int) -> Project:
        """Read a project.

        Raises
        ------
        StudioNotFoundError
            There is no such project, or the token's user may not see it.
        """
        try:
            raw = self.http.json("GET", f"/api/projects/{project_id}/")
        except StudioNotFoundError as error:
            raise StudioNotFoundError(
                f"project {project_id} does not exist at {self.url} or is not visible to the token's user;"
                f" see {self.browser_url}/projects"
            ) from error
        created = datetime.fromisoformat(raw["created_at"]).timestamp()
        return Project(
            id=int(raw["id"]),
            key=f"{raw['id']}.{int(created)}",
            title=raw.get("title") or "",
            created_at=created,
            label_config=raw.get("label_config") or "",
            model_version=raw.get("model_version"),
            sampling=raw.get("sampling") or "",
            maximum_annotations=int(raw.get("maximum_annotations") or 1),
            show_overlap_first=bool(raw.get("show_overlap_first")),
            show_collab_predictions=bool(raw.get("show_collab_predictions", True)),
            task_number=int(raw.get("task_number") or 0),
        )

    def update_project(self, project_id: int, **values: Any) -> None:
        """Change a project's settings in one PATCH.

        Parameters
        ----------
        **values
            Settings by Label Studio's names, such as `sampling` and `model_version`.
        """
        self.http.json("PATCH", f"/api/projects/{project_id}/", body=values)

    def tasks(
        self,
        project_id: int,
        *,
        data_key: str | None = None,
        only_unlabeled: bool = True,
        progress: Progress | None = None,
    ) -> Iterator[Task]:
        """List a project's tasks in Label Studio's order (by id).

        Parameters
        ----------
        data_key
            Keep only this key of each task's data.
        only_unlabeled
            Leave out tasks with any annotation, including skipped and empty ones.
        progress
            Called after each page with the number of tasks read and the number in the project.

        Yields
        ------
        Task
            Each once, even if tasks are added meanwhile. If tasks are deleted meanwhile, others may be missing
            from this listing.
        """
        params = {**_LISTED, "project": project_id}
        seen: set[int] = set()
        short = project_id in self._of_short_pages
        page, page_size, read = 1, SMALL_PAGE_SIZE if short else PAGE_SIZE, 0
        while True:
            try:
                answer = self.http.json(
                    "GET", "/api/tasks", params=params | {"page": page, "page_size": page_size}
                )
            except StudioTroubleError as error:
                if error.status != 500 or page_size <= SMALL_PAGE_SIZE:
                    raise
                logger.info(
                    "pages of %d tasks failed (%s); going on with %d", page_size, error, SMALL_PAGE_SIZE
                )
                page, page_size = read // SMALL_PAGE_SIZE + 1, SMALL_PAGE_SIZE
                self._of_short_pages.add(project_id)
                continue
            rows, total = answer["tasks"], int(answer["total"])
            read += len(rows)
            for row in rows:
                if row["id"] in seen:
                    continue
                seen.add(row["id"])
                task = _task_of(row, data_key)
                if task.unlabeled or not only_unlabeled:
                    yield task
            if progress:
                progress("listing tasks", min(read, total), total)
            if not rows or read >= total:
                return
            page += 1

    def newest_task(self, project_id: int) -> int:
        """Return the highest id of a project's tasks; 0 if there are none."""
        query = json.dumps({"ordering": ["-tasks:id"]})
        params = {**_LISTED, "project": project_id, "query": query, "page_size": 1}
        rows = self.http.json("GET", "/api/tasks", params=params)["tasks"]
        return max((int(row["id"]) for row in rows), default=0)

    def count_unlabeled(self, project_id: int, *, after: int) -> int:
        """Return how many of a project's tasks with an id above `after` nobody has submitted or skipped."""
        limits = (
            ("id", "greater", after),
            ("total_annotations", "equal", 0),
            ("cancelled_annotations", "equal", 0),
        )
        items = [
            {"filter": f"filter:tasks:{name}", "operator": how, "type": "Number", "value": value}
            for name, how, value in limits
        ]
        query = json.dumps({"filters": {"conjunction": "and", "items": items}})
        params = {**_LISTED, "project": project_id, "query": query, "page_size": 1}
        return int(self.http.json("GET", "/api/tasks", params=params)["total"])

    def tasks_of(self, project_id: int, ids: Sequence[int]) -> Iterator[Task]:
        """Read some tasks of a project; those that do not exist are left out."""
        for start in range(0, len(ids), SMALL_PAGE_SIZE):
            some = list(ids[start : start + SMALL_PAGE_SIZE])
            query = json.dumps({"selectedItems": {"all": False, "included": some}})
            params = {**_LISTED, "project": project_id, "query": query, "page_size": SMALL_PAGE_SIZE}
            for row in self.http.json("GET", "/api/tasks", params=params)["tasks"]:
                yield _task_of(row, None)

    def locate(self, task_id: int, source: str, *, public: Sequence[str] = ()) -> Location:
        """Return the location of the media behind a value of a task's data; see `media_locations.locate`.

        The headers hold an access token that may expire within two minutes: call this shortly before reading.

        Raises
        ------
        MediaError
            The value is empty or cannot be fetched from.
        """
        return media_locations.locate(
            task_id,
            source,
            url=self.url,
            public=public,
            authorization=self.http.authorization,
            documents_root=self._documents_root,
        )

    def labeled(self, project_id: int) -> Iterator[LabeledTask]:
        """Stream the export of the tasks with an annotation (or skip), in Label Studio's order."""
        with self.http.request(
            "GET", f"/api/projects/{project_id}/export", params={"exportType": "JSON"}, stream=True
        ) as answer:
            answer.encoding = "utf-8"
            try:
                for raw in _json_array(answer.iter_content(_READ_SIZE, decode_unicode=True)):
                    yield LabeledTask(
                        int(raw["id"]), raw.get("data") or {}, tuple(raw.get("annotations") or ())
                    )
            except (requests.RequestException, json.JSONDecodeError) as error:
                raise StudioError(
                    f"the export of project {project_id} was cut short ({error}); try again"
                ) from error

    def next_task(self, project_id: int) -> dict[str, Any] | None:
        """Request the next task to label, as the label stream does. Locks it for the token's user (24 h).

        Returns
        -------
        dict or None
            Label Studio's task with `predictions` and `queue` (the rule that chose it); None if none is left.
        """
        try:
            return dict(self.http.json("GET", f"/api/projects/{project_id}/next/"))
        except StudioNotFoundError:
            self.project(project_id)  # raises if the project itself is missing
            return None

    def annotate(self, task_id: int, result: list[dict[str, Any]], *, was_cancelled: bool = False) -> int:
        """Submit (or skip) a task for the token's user, which releases the lock; return the annotation's id.

        Parameters
        ----------
        result
            Label Studio's regions.
        was_cancelled
            Skip instead of submit.
        """
        body = {"result": result, "was_cancelled": was_cancelled}
        params = {"was_cancelled": 1} if was_cancelled else None
        return int(
            self.http.json("POST", f"/api/tasks/{task_id}/annotations/", params=params, body=body)["id"]
        )

    def annotations(self, task_id: int) -> list[dict[str, Any]]:
        """List the annotations of a task as Label Studio stores them; its own listing leaves out skips."""
        return list(self.http.json("GET", f"/api/tasks/{task_id}/")["annotations"])

    def delete_annotation(self, annotation_id: int) -> None:
        """Delete an annotation; harmless if it does not exist."""
        with contextlib.suppress(StudioNotFoundError):
            self.http.request("DELETE", f"/api/annotations/{annotation_id}/").close()


def _task_of(row: Mapping[str, Any], data_key: str | None) -> Task:
    """Convert a row of a listing; keep only one key of its data if one is given."""
    data = row.get("data") or {}
    if data_key is not None:
        data = {data_key: data[data_key]} if data_key in data else {}
    return Task(
        id=int(row["id"]),
        data=data,
        annotations=int(row.get("total_annotations") or 0),
        cancelled=int(row.get("cancelled_annotations") or 0),
    )


def _json_array(chunks: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a streamed JSON array; holds one chunk and one object at a time.

    An array that is not closed is an error, also where it breaks off between two objects.
    """
    decoder = json.JSONDecoder()
    buffer, position, needed, last = "", 0, 0, ""
    for chunk in chunks:
        last = chunk.rstrip()[-1:] or last
        buffer = buffer[position:] + chunk
        position = 0
        # Parse an incomplete object again only once the text has doubled: linear instead of quadratic time.
        if len(buffer) < needed:
            continue
        needed = 0
        while True:
            start = re.compile(r"[\s,\[\]]*").match(buffer, position)
            position = start.end() if start else position
            if position >= len(buffer):
                break
            try:
                value, position = decoder.raw_decode(buffer, position)
            except json.JSONDecodeError:
                needed = 2 * (len(buffer) - position)
                break
            yield value
    rest = buffer[position:].strip(" \t\r\n,[]")
    while rest:
        value, end = decoder.raw_decode(rest)
        yield value
        rest = rest[end:].lstrip(" \t\r\n,[]")
    if last != "]":
        raise json.JSONDecodeError("the array is not closed", buffer, len(buffer))

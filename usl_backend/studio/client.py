"""What we ask of Label Studio, in our own types; the queue, the backend row and the labels have files of their own."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import requests

from usl_backend.errors import InputError, StudioError, StudioNotFoundError, StudioTroubleError
from usl_backend.studio import media_locations
from usl_backend.studio.transport import ATTEMPTS, TokenKind, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from usl_backend.media import Location
    from usl_backend.progress import Progress
    from usl_backend.settings import HostSettings

logger = logging.getLogger(__name__)

PAGE_SIZE = 5000
# On SQLite, Label Studio answers pages of more than about 990 uploaded files with 500 ("Expression tree is too large").
SMALL_PAGE_SIZE = 500
_READ_SIZE = 2**20


@dataclass(frozen=True, slots=True)
class Project:
    """A Label Studio project as it was when asked for.

    Attributes
    ----------
    id, title, label_config
        As Label Studio has them.
    key
        `<id>.<creation time, unix s>`: what Label Studio calls the project at `/setup`; another project that
        gets the same id later has another key.
    model_version
        Version whose predictions annotators see: a static version, a backend's title, empty or None.
    sampling
        `Sequential sampling`, `Uniform sampling` or `Uncertainty sampling`.
    maximum_annotations
        Overlap: annotations each task should get.
    show_overlap_first
        Whether tasks with overlap come before all others.
    show_collab_predictions
        Whether predictions are shown to annotators.
    task_number
        Tasks in the project.
    """

    id: int
    key: str
    title: str
    created_at: float
    label_config: str
    model_version: str | None
    sampling: str
    maximum_annotations: int
    show_overlap_first: bool
    show_collab_predictions: bool
    task_number: int


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a listing.

    Attributes
    ----------
    id
        Label Studio's.
    data
        Its data as stored (`s3://...` stays as it is); only the asked key where one was asked for.
    annotations, cancelled
        Submitted and skipped annotations.
    """

    id: int
    data: Mapping[str, Any]
    annotations: int
    cancelled: int

    @property
    def unlabeled(self) -> bool:
        """Whether nobody has submitted or skipped it; Label Studio's is_labeled is false for skipped ones."""
        return self.annotations == 0 and self.cancelled == 0


@dataclass(frozen=True, slots=True)
class LabeledTask:
    """A task of the export, with its annotations as Label Studio writes them.

    Attributes
    ----------
    id, data
        As in `Task`.
    annotations
        Label Studio's own objects (`result`, `completed_by`, `was_cancelled`, `ground_truth`, ...).
    """

    id: int
    data: Mapping[str, Any]
    annotations: tuple[Mapping[str, Any], ...]


def parse_target(target: str) -> tuple[str | None, int]:
    """Read what a user typed for a project.

    Parameters
    ----------
    target
        `12`, or an address such as `http://localhost:8080/projects/12/data?tab=3`.

    Returns
    -------
    (str or None, int)
        Address of Label Studio (None when only a number was given) and project id.

    Raises
    ------
    InputError
        It is neither.
    """
    text = target.strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        return None, int(text)
    if match := re.match(r"(https?://[^?#\s]+?)/projects/([0-9]{1,12})(?:[/?#]|$)", text):
        return match[1], int(match[2])
    raise InputError(
        f"{target!r} is no project; give its number, such as 12, or its address,"
        " such as http://localhost:8080/projects/12"
    )


def is_project(target: str) -> bool:
    """Whether what a user typed means a project; parameters as in `parse_target`."""
    try:
        parse_target(target)
    except InputError:
        return False
    return True


class StudioClient:
    """One Label Studio, seen through one user's token; may be used from several threads.

    Parameters
    ----------
    url
        Address of Label Studio.
    api_key
        Legacy token or personal access token.
    timeout
        Longest wait for an answer, in seconds.
    documents_root
        Label Studio's local-files root as this host sees it, if it does.
    attempts
        How often a request that meets passing trouble is sent in all.

    Raises
    ------
    SettingsError
        The address or the token cannot be one. Nothing is sent yet.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = 600.0,
        documents_root: Path | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.http = Transport(url, api_key, timeout=timeout, attempts=attempts)
        self.url = self.http.url
        self._documents_root = documents_root

    @classmethod
    def from_settings(cls, host: HostSettings, *, url: str | None = None, attempts: int = ATTEMPTS) -> Self:
        """Make a client from host settings.

        Parameters
        ----------
        host
            Address, token and local-files root.
        url
            Address that the user named instead; refused when it is not the configured one, so that the token
            never goes to another server.
        attempts
            As for the class.

        Returns
        -------
        StudioClient
            Nothing is sent yet.

        Raises
        ------
        InputError
            `url` is another server.
        SettingsError
            Address or token are missing.
        """
        if url is not None and url.rstrip("/") != host.label_studio_url.rstrip("/"):
            raise InputError(
                f"the project is at {url}, but LABEL_STUDIO_URL is {host.label_studio_url};"
                f" set LABEL_STUDIO_URL={url} (and a token of that server)"
            )
        return cls(
            host.label_studio_url,
            host.api_key,
            documents_root=host.label_studio_local_files_document_root,
            attempts=attempts,
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
        """Days until a personal access token ends, counted from `now` (unix s); None for legacy tokens."""
        expires = self.http.token_expires
        return None if expires is None else (expires - now) / 86_400

    def version(self) -> str:
        """Label Studio's release, such as `1.23.2`."""
        return str(self.http.json("GET", "/api/version", timeout=30).get("release", "unknown"))

    def whoami(self) -> str:
        """E-mail address of the token's user.

        Raises
        ------
        StudioAuthError
            The token is refused.
        """
        return str(self.http.json("GET", "/api/current-user/whoami", timeout=30).get("email", ""))

    def user_id(self) -> int:
        """Label Studio's id of the token's user."""
        return int(self.http.json("GET", "/api/current-user/whoami", timeout=30)["id"])

    def project(self, project_id: int) -> Project:
        """Read a project.

        Raises
        ------
        StudioNotFoundError
            There is no such project, or the token's user does not see it.
        """
        try:
            raw = self.http.json("GET", f"/api/projects/{project_id}/")
        except StudioNotFoundError as error:
            raise StudioNotFoundError(
                f"project {project_id} does not exist at {self.url} or is not visible to the token's user;"
                f" see {self.url}/projects"
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
        project_id
            The project.
        **values
            Label Studio's own names, such as `sampling` and `model_version`.
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
        project_id
            The project.
        data_key
            Keep only this key of each task's data.
        only_unlabeled
            Leave out tasks that have any annotation, a skipped or empty one included.
        progress
            Called after each page with the tasks seen and the tasks in the project.

        Yields
        ------
        Task
            Each once, even when tasks are added meanwhile; tasks deleted meanwhile may hide others from this
            listing.
        """
        include = "id,data,total_annotations,cancelled_annotations"
        params = {
            "project": project_id,
            "fields": "task_only",
            "include": include,
            # Storage addresses stay as they are: the signed ones would differ in every listing.
            "resolve_uri": "false",
        }
        seen: set[int] = set()
        page, page_size, read = 1, PAGE_SIZE, 0
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
                continue
            rows, total = answer["tasks"], int(answer["total"])
            read += len(rows)
            for row in rows:
                if row["id"] in seen:
                    continue
                seen.add(row["id"])
                data = row.get("data") or {}
                if data_key is not None:
                    data = {data_key: data[data_key]} if data_key in data else {}
                task = Task(
                    id=int(row["id"]),
                    data=data,
                    annotations=int(row.get("total_annotations") or 0),
                    cancelled=int(row.get("cancelled_annotations") or 0),
                )
                if task.unlabeled or not only_unlabeled:
                    yield task
            if progress:
                progress("listing tasks", min(read, total), total)
            if not rows or read >= total:
                return
            page += 1

    def locate(self, task_id: int, source: str) -> Location:
        """Say where the bytes behind a value of a task's data are; see `media_locations.locate`.

        The headers hold an access token that may end within two minutes: call this shortly before reading.

        Raises
        ------
        MediaError
            There is no value, or nothing can be fetched from it.
        """
        return media_locations.locate(
            task_id,
            source,
            url=self.url,
            authorization=self.http.authorization,
            documents_root=self._documents_root,
        )

    def labeled(self, project_id: int) -> Iterator[LabeledTask]:
        """Stream the export of the tasks that have an annotation, skipped ones included.

        Parameters
        ----------
        project_id
            The project.

        Yields
        ------
        LabeledTask
            In Label Studio's order.
        """
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
                    f"the export of project {project_id} broke off ({error}); try again"
                ) from error

    def next_task(self, project_id: int) -> dict[str, Any] | None:
        """Ask for the next task to label, as the label stream does. Locks it for the token's user (24 h).

        Returns
        -------
        dict or None
            Label Studio's task with `predictions` and `queue` (which rule chose it); None when there is none.
        """
        try:
            return dict(self.http.json("GET", f"/api/projects/{project_id}/next/"))
        except StudioNotFoundError:
            self.project(project_id)  # raises when it is the project that is missing
            return None

    def annotate(self, task_id: int, result: list[dict[str, Any]], *, was_cancelled: bool = False) -> int:
        """Submit (or skip) a task for the token's user, which releases the lock.

        Parameters
        ----------
        task_id
            The task.
        result
            Label Studio's regions.
        was_cancelled
            Skip instead of submit.

        Returns
        -------
        int
            Id of the annotation.
        """
        body = {"result": result, "was_cancelled": was_cancelled}
        params = {"was_cancelled": 1} if was_cancelled else None
        return int(
            self.http.json("POST", f"/api/tasks/{task_id}/annotations/", params=params, body=body)["id"]
        )

    def annotations(self, task_id: int) -> list[dict[str, Any]]:
        """List the annotations of a task as Label Studio has them; unlike its own listing, with the skips."""
        return list(self.http.json("GET", f"/api/tasks/{task_id}/")["annotations"])

    def delete_annotation(self, annotation_id: int) -> None:
        """Delete an annotation."""
        self.http.request("DELETE", f"/api/annotations/{annotation_id}/").close()


def _json_array(chunks: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Objects of a JSON array that arrives in pieces; holds one piece and one object at a time."""
    decoder = json.JSONDecoder()
    buffer, position, needed = "", 0, 0
    for chunk in chunks:
        buffer = buffer[position:] + chunk
        position = 0
        # An object that did not fit is tried again only when the text has doubled: linear, not quadratic.
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

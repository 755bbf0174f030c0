"""Tasks that we make in a project for instances from elsewhere: made once, found again, taken back while untouched.

Each carries what it is in its data, under names that begin with `usl_`: the pool, the instance's id there, a
hash of its content, and its place in the queue. By pool, id and hash it is known again, so that repeating an
import makes nothing twice. The queue itself is `queue.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from usl_backend.errors import StudioError

if TYPE_CHECKING:
    from usl_backend.progress import Progress
    from usl_backend.studio.client import StudioClient

TASKS_PER_CALL: Final = 1_000
FILES_PER_CALL: Final = 20
BYTES_PER_CALL: Final = 32 << 20
SUFFIXES: Final = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})
"""Pictures that Label Studio takes as uploads and browsers show."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An instance that is to become a task.

    Attributes
    ----------
    row
        The instance's id in the run.
    key, source
        Its own id, and where it comes from, as people know them.
    role, rank
        "pick", "control" or "reserve", and the place in the queue, 0 first.
    digest
        Hash of its content, hexadecimal.
    """

    row: int
    key: str
    source: str
    role: str
    rank: int
    digest: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be kept by Label Studio: name with suffix, and content."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Imported:
    """A task of ours as Label Studio has it now.

    Attributes
    ----------
    task
        Its id.
    run, pool, key, digest
        Of the run that made it.
    rank, role
        As they stand in its data.
    untouched
        Whether nobody has submitted or skipped it.
    """

    task: int
    run: str
    pool: str
    key: str
    digest: str
    rank: int | None
    role: str
    untouched: bool


def imported(client: StudioClient, project_id: int, pool: str) -> list[Imported]:
    """List the tasks that were made for a pool, by id.

    Parameters
    ----------
    client, project_id
        Where.
    pool
        Name of the pool, whichever run it was.
    """
    found = []
    for task in client.tasks(project_id, only_unlabeled=False):
        if task.data.get("usl_pool") == pool:
            rank = task.data.get("usl_rank")
            found.append(
                Imported(
                    task=task.id,
                    run=str(task.data.get("usl_run")),
                    pool=pool,
                    key=str(task.data.get("usl_id")),
                    digest=str(task.data.get("usl_hash")),
                    rank=rank if isinstance(rank, int) else None,
                    role=str(task.data.get("usl_role")),
                    untouched=task.unlabeled,
                )
            )
    return found


def import_tasks(
    client: StudioClient,
    project_id: int,
    chosen: Sequence[Chosen],
    *,
    run_id: str,
    pool: str,
    data_key: str,
    values: Callable[[Sequence[Chosen]], Sequence[str]],
    progress: Progress | None = None,
) -> dict[int, int]:
    """Make a task for each chosen instance that has none yet.

    Parameters
    ----------
    client, project_id
        Where.
    chosen
        In rank order.
    run_id, pool
        Noted in the tasks.
    data_key
        Field of a task's data that the label config shows.
    values
        What that field holds for some of them: an address of Label Studio's, or a text. Asked shortly before the
        tasks are made, and only for those that are.
    progress
        Called with tasks there and tasks wanted.

    Returns
    -------
    dict
        Row -> task id. A task that an earlier run of the pool made is taken again, with its rank and role set anew.

    Raises
    ------
    StudioError
        Label Studio refused, or made fewer tasks than it was given. What was made is found by the next try.
    """
    by_content = {(known.key, known.digest): known for known in imported(client, project_id, pool)}
    tasks: dict[int, int] = {}
    for one in chosen:
        known = by_content.get((one.key, one.digest))
        if known is not None:
            tasks[one.row] = known.task
            if (known.rank, known.role, known.run) != (one.rank, one.role, run_id):
                _update(client, known.task, {"usl_rank": one.rank, "usl_role": one.role, "usl_run": run_id})
    missing = [one for one in chosen if one.row not in tasks]
    for batch in _batches(missing, TASKS_PER_CALL):
        body = [
            {
                "data": {
                    data_key: value,
                    "usl_pool": pool,
                    "usl_run": run_id,
                    "usl_id": one.key,
                    "usl_source": one.source,
                    "usl_role": one.role,
                    "usl_rank": one.rank,
                    "usl_hash": one.digest,
                }
            }
            for one, value in zip(batch, values(batch), strict=True)
        ]
        answer = client.http.json(
            "POST", f"/api/projects/{project_id}/import", params={"return_task_ids": "true"}, body=body
        )
        made = answer.get("task_ids") or []
        if len(made) != len(batch):
            raise StudioError(
                f"Label Studio made {len(made)} tasks of {len(batch)} in project {project_id}; resume the run"
            )
        tasks.update({one.row: int(task) for one, task in zip(batch, made, strict=True)})
        if progress is not None:
            progress("importing the chosen", len(tasks), len(chosen))
    return tasks


class Uploads:
    """Files of ours that a project keeps; a file that is there already is not sent again.

    Parameters
    ----------
    client, project_id
        Where.
    """

    def __init__(self, client: StudioClient, project_id: int) -> None:
        self._client, self._project = client, project_id
        self._known: dict[str, str] | None = None

    def send(self, files: Sequence[Upload]) -> list[str]:
        """Addresses of the files within Label Studio, as a task's data holds them, after sending those that lack.

        Raises
        ------
        StudioError
            Label Studio does not keep one of them afterwards.
        """
        if self._known is None:
            self._known = self._listed()
        lacking = {file.name: file for file in files if file.name not in self._known}
        for batch in _by_size(list(lacking.values())):
            # A field each: of several files in one field Label Studio keeps the last.
            fields = {file.name: (file.name, file.content) for file in batch}
            self._client.http.json(
                "POST",
                f"/api/projects/{self._project}/import",
                params={"commit_to_project": "false"},
                files=fields,
            )
        if lacking:
            self._known = self._listed()
        for file in files:
            if file.name not in self._known:
                raise StudioError(
                    f"Label Studio did not keep the uploaded {file.name}; look at the space on its disk, then "
                    "resume the run"
                )
        return [self._known[file.name] for file in files]

    def remove(self, digests: Iterable[str]) -> None:
        """Delete the files of these contents."""
        heads = tuple(f"usl-{digest[:16]}-" for digest in digests)
        doomed = [number for name, number, _ in self._rows() if name.startswith(heads)]
        if doomed:
            path = f"/api/projects/{self._project}/file-uploads"
            self._client.http.json("DELETE", path, body={"file_upload_ids": doomed})
        self._known = None

    def _listed(self) -> dict[str, str]:
        """Name as we sent it -> address."""
        return {name: f"/data/{path}" for name, _, path in self._rows()}

    def _rows(self) -> Iterator[tuple[str, int, str]]:
        """Name as we sent it, id and path; Label Studio puts eight random characters before a name."""
        rows = self._client.http.json(
            "GET", f"/api/projects/{self._project}/file-uploads", params={"all": "true"}
        )
        for row in rows:
            path = str(row.get("file") or "")
            match = re.fullmatch(r"[0-9a-f]{8}-(.+)", path.rsplit("/", 1)[-1])
            if match:
                yield match[1], int(row["id"]), path


def file_name(digest: str, name: str) -> str:
    """Name under which a file is uploaded: by its content, so that it is known again, with what people call it.

    Parameters
    ----------
    digest
        Hash of the content, hexadecimal.
    name
        The file's own name, with its suffix.
    """
    stem, dot, suffix = name.rpartition(".")
    plain = re.sub(r"[^A-Za-z0-9]+", "_", stem if dot else name).strip("_")[:40]
    return f"usl-{digest[:16]}-{plain or 'picture'}.{suffix.lower() if dot else 'png'}"


def take_back(
    client: StudioClient, project_id: int, pool: str, *, run_id: str
) -> tuple[list[int], list[int]]:
    """Delete the tasks that a run made, and their files, as far as nobody has labeled or skipped them.

    Parameters
    ----------
    client, project_id
        Where.
    pool, run_id
        Whose tasks.

    Returns
    -------
    tuple of list and list
        Tasks that were deleted, and tasks that were left because they have annotations.
    """
    everything = imported(client, project_id, pool)
    ours = [known for known in everything if known.run == run_id]
    doomed = [known.task for known in ours if known.untouched]
    for batch in _batches(doomed, TASKS_PER_CALL):
        client.http.json(
            "POST",
            "/api/dm/actions",
            params={"id": "delete_tasks", "project": project_id},
            body={"selectedItems": {"all": False, "included": list(batch)}},
        )
    there = {task.id for task in client.tasks(project_id, only_unlabeled=False)}
    if left := sorted(there.intersection(doomed)):
        raise StudioError(f"Label Studio did not delete {len(left)} tasks (first: {left[0]}); try again")
    staying = {known.digest for known in everything if known.task not in set(doomed)}
    Uploads(client, project_id).remove(
        {known.digest for known in ours if known.untouched and known.digest not in staying}
    )
    return doomed, [known.task for known in ours if not known.untouched]


def _update(client: StudioClient, task: int, values: dict[str, Any]) -> None:
    """Change some of a task's data."""
    data = client.http.json("GET", f"/api/tasks/{task}/", params={"resolve_uri": "false"})["data"]
    client.http.json("PATCH", f"/api/tasks/{task}/", body={"data": {**data, **values}})


def _batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Consecutive parts."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _by_size(files: Sequence[Upload]) -> Iterator[list[Upload]]:
    """Consecutive parts that are neither too many files nor too many bytes for one request."""
    batch: list[Upload] = []
    for file in files:
        if batch and (
            len(batch) == FILES_PER_CALL
            or sum(len(one.content) for one in batch) + len(file.content) > BYTES_PER_CALL
        ):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch

"""Create tasks for instances from outside Label Studio, recognize them later, and delete the untouched ones.

The data of such a task has keys that begin with `usl_`: the pool, the instance's id there, a hash of its content,
and its place in the queue. Pool, id and hash identify the task, so that repeating an import creates no
duplicates. The queue itself is published by `queue.py`.
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
"""Image formats that Label Studio accepts as uploads and browsers display."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A chosen instance to create a task for.

    Attributes
    ----------
    row
        The instance's id in the run.
    key, source
        The instance's id in its pool, and its path, URL or other origin, as shown to users.
    role
        "pick", "control" or "reserve".
    rank
        Place in the queue, 0 first.
    digest
        Hash of the content, hexadecimal.
    """

    row: int
    key: str
    source: str
    role: str
    rank: int
    digest: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to upload to Label Studio: name with suffix, and content."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Imported:
    """A task created by a run, as Label Studio stores it now.

    Attributes
    ----------
    task
        Task id.
    run
        Id of the run that queued it last.
    pool, key, digest
        Pool, id and content hash of its instance.
    rank, role
        As in the task's data.
    untouched
        True if nobody has submitted or skipped it.
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
    """List the tasks that any run created for a pool, by id."""
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
    """Create a task for each chosen instance that has none yet.

    Parameters
    ----------
    chosen
        In rank order.
    run_id, pool
        Stored in the tasks.
    data_key
        Key of a task's data that the label config shows.
    values
        Returns the values of that key for some instances: URLs within Label Studio, or texts. Called for each
        batch of new tasks shortly before they are created.
    progress
        Called with the number of existing tasks and the number of chosen instances.

    Returns
    -------
    dict
        Row -> task id. Tasks that an earlier run of the pool created are reused with their new rank and role.

    Raises
    ------
    StudioError
        Label Studio refused, or created fewer tasks than requested. A repeated call reuses the created ones.
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
                f"Label Studio created {len(made)} of {len(batch)} tasks in project {project_id}; resume the run"
            )
        tasks.update({one.row: int(task) for one, task in zip(batch, made, strict=True)})
        if progress is not None:
            progress("importing the chosen", len(tasks), len(chosen))
    return tasks


class Uploads:
    """Files uploaded to a project by this package; a file that is already there is not sent again."""

    def __init__(self, client: StudioClient, project_id: int) -> None:
        self._client, self._project = client, project_id
        self._known: dict[str, str] | None = None

    def send(self, files: Sequence[Upload]) -> list[str]:
        """Upload the files that are missing and return the URL of each, as a task's data holds it.

        Raises
        ------
        StudioError
            Label Studio does not list one of the files after the upload.
        """
        if self._known is None:
            self._known = self._listed()
        missing = {file.name: file for file in files if file.name not in self._known}
        for batch in _by_size(list(missing.values())):
            # One form field per file: of several files in one field Label Studio keeps only the last.
            fields = {file.name: (file.name, file.content) for file in batch}
            self._client.http.json(
                "POST",
                f"/api/projects/{self._project}/import",
                params={"commit_to_project": "false"},
                files=fields,
            )
        if missing:
            self._known = self._listed()
        for file in files:
            if file.name not in self._known:
                raise StudioError(
                    f"Label Studio did not keep the uploaded {file.name}; check the free space on its disk, then "
                    "resume the run"
                )
        return [self._known[file.name] for file in files]

    def remove(self, digests: Iterable[str]) -> None:
        """Delete the files with these content hashes."""
        heads = tuple(f"usl-{digest[:16]}-" for digest in digests)
        doomed = [number for name, number, _ in self._rows() if name.startswith(heads)]
        if doomed:
            path = f"/api/projects/{self._project}/file-uploads"
            self._client.http.json("DELETE", path, body={"file_upload_ids": doomed})
        self._known = None

    def _listed(self) -> dict[str, str]:
        """Map uploaded file names to their URLs."""
        return {name: f"/data/{path}" for name, _, path in self._rows()}

    def _rows(self) -> Iterator[tuple[str, int, str]]:
        """Yield name, id and path of each upload; Label Studio prefixes names with eight random characters."""
        rows = self._client.http.json(
            "GET", f"/api/projects/{self._project}/file-uploads", params={"all": "true"}
        )
        for row in rows:
            path = str(row.get("file") or "")
            match = re.fullmatch(r"[0-9a-f]{8}-(.+)", path.rsplit("/", 1)[-1])
            if match:
                yield match[1], int(row["id"]), path


def file_name(digest: str, name: str) -> str:
    """Return the upload name of a file: a prefix of its content hash, to recognize it later, and its own name.

    Parameters
    ----------
    digest
        Hash of the content, hexadecimal.
    name
        File name with suffix.
    """
    stem, dot, suffix = name.rpartition(".")
    plain = re.sub(r"[^A-Za-z0-9]+", "_", stem if dot else name).strip("_")[:40]
    return f"usl-{digest[:16]}-{plain or 'picture'}.{suffix.lower() if dot else 'png'}"


def take_back(
    client: StudioClient, project_id: int, pool: str, *, run_id: str
) -> tuple[list[int], list[int]]:
    """Delete the tasks of a run, and their files, unless somebody has labeled or skipped them.

    Returns
    -------
    tuple of list and list
        Deleted tasks, and tasks kept because they have annotations.
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
    present = {task.id for task in client.tasks(project_id, only_unlabeled=False)}
    if left := sorted(present.intersection(doomed)):
        raise StudioError(f"Label Studio did not delete {len(left)} tasks (first: {left[0]}); try again")
    gone = set(doomed)
    staying = {known.digest for known in everything if known.task not in gone}
    Uploads(client, project_id).remove(
        {known.digest for known in ours if known.untouched and known.digest not in staying}
    )
    return doomed, [known.task for known in ours if not known.untouched]


def _update(client: StudioClient, task: int, values: dict[str, Any]) -> None:
    """Change some keys of a task's data."""
    data = client.http.json("GET", f"/api/tasks/{task}/", params={"resolve_uri": "false"})["data"]
    client.http.json("PATCH", f"/api/tasks/{task}/", body={"data": {**data, **values}})


def _batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Yield consecutive batches of at most `size` items."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _by_size(files: Sequence[Upload]) -> Iterator[list[Upload]]:
    """Yield consecutive batches within FILES_PER_CALL and BYTES_PER_CALL."""
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

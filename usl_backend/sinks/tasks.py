"""The picks of a pool outside Label Studio become tasks of a project, first in its queue; no other task is made.

Files are uploaded, or referred to where annotators can reach them as they are. What an interrupted import has made
is found by the next attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

from usl_backend.errors import InputError, MediaError, RunError
from usl_backend.media import to_png
from usl_backend.sinks.queue import publish
from usl_backend.studio.imports import SUFFIXES, Chosen, Upload, Uploads, file_name, import_tasks, take_back
from usl_backend.studio.label_config import EMBEDDED_TAGS, parse
from usl_backend.studio.queue import QueueState
from usl_backend.studio.reset import ResetReport, reset

if TYPE_CHECKING:
    from usl_backend.instances import Instance
    from usl_backend.media import MediaLimits
    from usl_backend.runs import Run, RunStore
    from usl_backend.studio.client import Project, StudioClient

WAYS: Final = ("upload", "url", "local-files")
"""How a task refers to its picture: a copy that Label Studio keeps, the picture's own address, or a file below
Label Studio's local-files root."""

_AT_ONCE: Final = 20
"""Files in memory."""

Described = Mapping[int, tuple[str, "Instance"]]
"""Row -> the manifest's id and the instance."""


def check_project(project: Project, key: str, modality: str) -> str:
    """Field of a task's data that the project shows, and that can hold such instances.

    Parameters
    ----------
    project
        As it is now.
    key
        Its id with creation time, as it was when the run was asked for.
    modality
        Of the instances.

    Raises
    ------
    InputError
        Another project has the number by now, or it shows something else.
    """
    if project.key != key:
        raise InputError(
            f"project {project.id} is another one than when the run was asked for (it was deleted and its number "
            "given again, or LABEL_STUDIO_URL leads elsewhere); start a new run"
        )
    tags = parse(project.label_config).objects
    keys = [tag.data_key for tag in tags if EMBEDDED_TAGS.get(tag.type) == modality and tag.data_key]
    if len(set(keys)) != 1 or len({tag.data_key for tag in tags}) != 1:
        shown = ", ".join(f'{tag.type} "{tag.data_key}"' for tag in tags) or "nothing"
        raise InputError(
            f'project {project.id} ("{project.title}") shows {shown}, but the pool has one {modality} a row; choose a '
            f"project whose label config shows one {modality} and nothing else"
        )
    return keys[0]


def deliver(
    client: StudioClient,
    run: Run,
    *,
    store: RunStore,
    queue: Sequence[Mapping[str, Any]],
    described: Described,
    hashes: Mapping[int, str],
    modality: str,
    read: Callable[[Instance], bytes],
    limits: MediaLimits,
    documents_root: Path | None,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Make tasks for the queue and put them first in their project.

    Parameters
    ----------
    client
        Door to Label Studio.
    run
        Its target names the project (`import_to`, `import_key`) and how files get there (`import_as`).
    store
        Remembers the project's queue state.
    queue
        {"task": row, "rank", "role"} in rank order.
    described, hashes
        Of the rows in the queue.
    modality
        Of the instances.
    read
        Bytes behind an instance; raises `MediaError`.
    limits
        For pictures that have to be converted.
    documents_root
        Label Studio's local-files root as this host sees it.
    progress
        Called as `progress(done, total)`.

    Returns
    -------
    dict
        The published artifact; its queue names rows, with the task of each under "studio_task".

    Raises
    ------
    InputError
        The project is another one, shows something else, or a file cannot be referred to as asked.
    RunError
        A chosen file can no longer be read.
    StudioError
        Label Studio refuses or fails; resuming goes on where it stopped.
    """
    project = client.project(int(run.target["import_to"]))
    data_key = check_project(project, str(run.target["import_key"]), modality)
    chosen = [
        Chosen(
            row=entry["task"],
            key=described[entry["task"]][0],
            source="" if modality == "text" else described[entry["task"]][1].source,
            role=entry["role"],
            rank=entry["rank"],
            digest=hashes[entry["task"]],
        )
        for entry in queue
    ]
    way = _Way(
        run.target.get("import_as"), described, read, limits, documents_root, Uploads(client, project.id)
    )
    tasks = import_tasks(
        client,
        project.id,
        chosen,
        run_id=run.id,
        pool=run.pool,
        data_key=data_key,
        values=way.values,
        progress=progress,
    )
    of_role: dict[str, list[int]] = {"pick": [], "control": [], "reserve": []}
    for entry in queue:
        of_role[entry["role"]].append(tasks[entry["task"]])
    drawn = [tasks[entry["task"]] for entry in queue if entry.get("control")]
    published = publish(
        client,
        run,
        store=store,
        project_id=project.id,
        project_key=project.key,
        picks=of_role["pick"],
        reserve=of_role["reserve"],
        control=drawn,
        progress=progress,
    )
    published["queue"] = [{**entry, "studio_task": tasks[entry["task"]]} for entry in queue]
    published["imported"] = {
        "id": project.id,
        "key": project.key,
        "title": project.title,
        "data_key": data_key,
    }
    return published


def undo(client: StudioClient, run: Run, *, store: RunStore) -> ResetReport:
    """Take back what a run put into a project: its queue, and the tasks of its making that nobody has labeled.

    Parameters
    ----------
    client
        Door to Label Studio.
    run
        With a project to import to, complete or not.
    store
        Knows what the project was like before.

    Returns
    -------
    ResetReport
        What was put back, and what was left because somebody has worked on it.

    Raises
    ------
    InputError
        Another project has the number by now.
    StudioError
        Label Studio refuses or fails; it may be tried again.
    """
    project = client.project(int(run.target["import_to"]))
    if project.key != run.target["import_key"]:
        raise InputError(
            f"project {project.id} is another one than run {run.id} was imported to: that one was deleted, and its "
            "tasks with it"
        )
    restored: list[str] = []
    left: list[str] = []
    known = store.queue_state(project.key)
    if known is not None and known["run_id"] == run.id:
        report = reset(client, project, QueueState.from_json(known))
        store.save_queue_state(project.key, None)
        restored += report.restored
        left += report.left
    gone, labeled = take_back(client, project.id, run.pool, run_id=run.id)
    if gone:
        restored.append(f"tasks: {len(gone)} deleted, with their files")
    if labeled:
        left.append(f"tasks: {len(labeled)} tasks have annotations (first: {labeled[0]})")
    return ResetReport(tuple(restored), tuple(left))


class _Way:
    """How instances are shown in tasks."""

    def __init__(
        self,
        way: str | None,
        described: Described,
        read: Callable[[Instance], bytes],
        limits: MediaLimits,
        documents_root: Path | None,
        uploads: Uploads,
    ) -> None:
        self.way, self.described, self.read, self.limits = way, described, read, limits
        self.documents_root, self.uploads = documents_root, uploads

    def values(self, chosen: Sequence[Chosen]) -> list[str]:
        """What a task's data holds for each of these."""
        values: dict[int, str] = {}
        for one in chosen:
            instance = self.described[one.row][1]
            if instance.modality == "text":
                values[one.row] = instance.source
            elif self.way == "local-files":
                values[one.row] = self._local(one.key, instance.source)
            elif self.way == "url" or (self.way is None and not instance.source.startswith("/")):
                values[one.row] = self._address(one.key, instance.source)
        lacking = [one for one in chosen if one.row not in values]
        # few files in memory at a time
        for start in range(0, len(lacking), _AT_ONCE):
            some = lacking[start : start + _AT_ONCE]
            addresses = self.uploads.send([self._upload(one) for one in some])
            values.update(zip((one.row for one in some), addresses, strict=True))
        return [values[one.row] for one in chosen]

    def _upload(self, one: Chosen) -> Upload:
        """A file for Label Studio, in a format that browsers show."""
        source = self.described[one.row][1].source
        name = PurePosixPath(source if source.startswith("/") else unquote(urlsplit(source).path)).name
        try:
            content = self.read(self.described[one.row][1])
            suffix = PurePosixPath(name).suffix.lower()
            if suffix not in SUFFIXES:
                content, name = to_png(content, limits=self.limits), f"{name.removesuffix(suffix)}.png"
        except MediaError as error:
            raise RunError(
                f"{one.key} was chosen but can no longer be read ({error}); put it back and resume the run"
            ) from error
        return Upload(file_name(one.digest, name), content)

    def _local(self, key: str, source: str) -> str:
        """Address of a file below Label Studio's local-files root."""
        root = None if self.documents_root is None else self.documents_root.resolve()
        path = Path(source).resolve()
        if root is None or not path.is_relative_to(root):
            below = "is not set" if root is None else f"is {root}"
            raise InputError(
                f"{key} does not lie below Label Studio's local-files root "
                f"(LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT {below}); use --import-as upload"
            )
        return f"/data/local-files/?d={quote(path.relative_to(root).as_posix())}"

    def _address(self, key: str, source: str) -> str:
        """The picture's own address."""
        if source.startswith("/"):
            raise InputError(f"{key} is a file on this disk, which has no address; use --import-as upload")
        return source

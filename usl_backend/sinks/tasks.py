"""Sink that imports the picks of a pool outside Label Studio as tasks, first in a project's queue.

Files are uploaded, or referred to if annotators can reach them. Tasks created by an interrupted import are found
and reused by the next attempt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

import numpy as np

from usl_backend.errors import InputError, MediaError, RunError
from usl_backend.instances import Queue
from usl_backend.media import is_inside, to_png
from usl_backend.runs.columns import proper
from usl_backend.runs.published import Destination, Published, PublishedPool
from usl_backend.runs.summary import PoolSummary
from usl_backend.sinks.changes import Changes
from usl_backend.sinks.queue import publish, tab_of
from usl_backend.sinks.table import TableSink, queued_instances
from usl_backend.sources.media import MediaAccess
from usl_backend.studio.imports import SUFFIXES, Chosen, Upload, Uploads, file_name, import_tasks, take_back
from usl_backend.studio.kinds import kind_of
from usl_backend.studio.label_config import EMBEDDED_TAGS, parse
from usl_backend.studio.reset import ResetReport, reset

if TYPE_CHECKING:
    from usl_backend.instances import Instance, Pool
    from usl_backend.progress import Progress
    from usl_backend.runs import Run, RunFiles, RunStore
    from usl_backend.runs.record import ImportOrder
    from usl_backend.runs.summary import Summary
    from usl_backend.selection.base import Selection
    from usl_backend.settings import HostSettings
    from usl_backend.sources.media import Media
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.kinds import Kind
    from usl_backend.studio.label_config import ObjectTag
    from usl_backend.studio.records import Project

_WHOLE: Final[Mapping[str, Kind]] = {"Pdf": "pdf", "Video": "video"}
"""Tags that show a whole file, and what it has to be."""
_AT_ONCE: Final = 20
"""Maximum number of files in memory."""

QueuedInstances = Mapping[int, tuple[str, "Instance"]]
"""Row -> (id given by the manifest, instance)."""


class TasksSink:
    """Writes the picks of a run to a table and creates tasks for them; implements `Sink`.

    Parameters
    ----------
    client
        Label Studio client.
    run
        Run over a pool outside Label Studio; its import order names the project.
    store
        Stores the project's queue state.
    host
        Limits and directories.
    """

    def __init__(self, client: StudioClient, run: Run, store: RunStore, host: HostSettings) -> None:
        order = run.import_order
        assert order is not None, "the picks of this run are not imported"
        self.client, self.run, self.store, self.host, self.order = client, run, store, host, order
        self.files: RunFiles = store.files(run.id)
        self.table = TableSink(self.files)

    def classes(self) -> tuple[str, ...]:
        """Return the choices of the project that receives the picks."""
        return tuple(parse(self.client.project(self.order.project).label_config).classes)

    def changes(self, tasks: Sequence[int]) -> Changes:  # noqa: ARG002 - the protocol's signature
        """Return no changes: nobody can have labeled tasks before they are made."""
        return Changes()

    def publish(self, queue: Queue, progress: Progress) -> PublishedPool:
        """Create a task for each place of the queue and put them first in their project.

        Raises
        ------
        InputError
            The project was replaced, shows another modality, or a file cannot be referred to as requested.
        RunError
            A selected file can no longer be read.
        StudioError
            Label Studio refuses the request or fails; resuming continues where it stopped.
        """
        if self.run.dry_run:
            return PublishedPool(queue)
        outside = self.files.read_inventory().outside
        assert outside is not None
        project = self.client.project(self.order.project)
        tag = check_project(project, self.order.key, outside.modality)
        instances = queued_instances(self.files, queue)
        chosen = _chosen(queue, instances, _hashes(self.files, queue))
        with MediaAccess.of_list(self.host, outside.roots).open() as media:
            shown = _Shown(
                self.order,
                instances,
                media,
                tag=tag,
                documents_root=self.host.label_studio_local_files_document_root,
                uploads=Uploads(self.client, project.id),
            )
            tasks = import_tasks(
                self.client,
                project.id,
                chosen,
                run_id=self.run.id,
                pool=self.run.pool,
                data_key=tag.data_key,
                values=shown.values,
                progress=progress,
            )
        theirs = Queue(tuple(replace(place, instance=tasks[place.instance]) for place in queue.places))
        done = publish(self.client, self.run, project, theirs, store=self.store, progress=progress)
        return PublishedPool(
            Queue(tuple(replace(place, task=tasks[place.instance]) for place in queue.places)),
            model_version=done.model_version,
            view_id=done.view_id,
            carried_over=done.carried_over,
            warnings=done.warnings,
            verified=done.verified,
            imported=Destination(project.id, project.key, project.title, tag.data_key),
        )

    def complete(self, published: Published, pool: Pool, selection: Selection) -> None:
        """Write the table."""
        self.table.complete(published, pool, selection)

    def describe(self, summary: Summary, published: Published) -> Summary:
        """Add the path of the table, the project and the link to the tab."""
        described = self.table.describe(summary, published)
        assert isinstance(described, PoolSummary)
        if described.imported is None:
            return described
        return replace(described, tab=tab_of(self.client.browser_url, described.imported.id, published))

    def versions(self) -> Mapping[str, str]:
        """Return Label Studio's version."""
        return {"label-studio": self.client.version()}


def check_project(project: Project, key: str, modality: str) -> ObjectTag:
    """Return the tag by which the project shows instances of a modality.

    Parameters
    ----------
    project
        The project's current state.
    key
        Its id with creation time at the creation of the run.
    modality
        Modality of the instances.

    Raises
    ------
    InputError
        The project was replaced by another with the same id, or does not show exactly one such field.
    """
    if project.key != key:
        raise InputError(
            f"project {project.id} is not the project this run was created for: that one was deleted and its id "
            "reused, or LABEL_STUDIO_URL points to another Label Studio; start a new run"
        )
    tags = parse(project.label_config).objects
    fitting = [
        tag
        for tag in tags
        if EMBEDDED_TAGS.get(tag.type) == modality and re.fullmatch(r"[\w-]+", tag.data_key)
    ]
    if not fitting or len({tag.data_key for tag in tags}) != 1:
        shown = ", ".join(f'{tag.type} "{tag.data_key}"' for tag in tags) or "nothing"
        raise InputError(
            f'project {project.id} ("{project.title}") shows {shown}, but each row of the pool is one {modality}; '
            f"choose a project whose label config shows one {modality} and nothing else"
        )
    return fitting[0]


def undo(client: StudioClient, run: Run, *, store: RunStore) -> ResetReport:
    """Undo a run's import into a project: remove its queue, and its tasks that have no annotations.

    Parameters
    ----------
    client
        Label Studio client.
    run
        Run with an import order, complete or not.
    store
        Stores the previous state of the project.

    Returns
    -------
    ResetReport
        Restored settings and removed tasks, and what was left because users have worked on it.

    Raises
    ------
    InputError
        The project was replaced by another with the same id.
    StudioError
        Label Studio refuses the request or fails; the call can be repeated.
    """
    order = run.import_order
    assert order is not None, "the picks of this run are not imported"
    project = client.project(order.project)
    if project.key != order.key:
        raise InputError(
            f"project {project.id} is not the project that run {run.id} was imported to: that one was deleted together "
            "with its tasks"
        )
    restored: list[str] = []
    left: list[str] = []
    known = store.queue_state(project.key)
    if known is not None and known.run_id == run.id:
        report = reset(client, project, known)
        store.save_queue_state(project.key, None)
        restored += report.restored
        left += report.left
    gone, labeled = take_back(client, project.id, run.pool, run_id=run.id)
    if gone:
        restored.append(f"tasks: {len(gone)} deleted, with their files")
    if labeled:
        left.append(f"tasks: {len(labeled)} tasks have annotations (first: {labeled[0]})")
    return ResetReport(tuple(restored), tuple(left))


def _chosen(queue: Queue, instances: QueuedInstances, hashes: Mapping[int, str]) -> list[Chosen]:
    """Convert the places of a queue to tasks to create.

    Label Studio takes file names that are not UTF-8, and from then on answers 500 whenever it lists their project.
    """
    made = []
    for place in queue.places:
        key, instance = instances[place.instance]
        source = proper(instance.source) if instance.located else ""
        made.append(
            Chosen(place.instance, proper(key), source, place.role, place.rank, digest=hashes[place.instance])
        )
    return made


def _hashes(files: RunFiles, queue: Queue) -> dict[int, str]:
    """Return row -> content hash for the queued rows."""
    pool, hashes = files.read_pool()
    wanted = np.asarray(queue.instances, dtype=np.int64)
    places = np.searchsorted(pool.ids, wanted)
    return {int(row): hashes[place] for row, place in zip(wanted, places.tolist(), strict=True)}


class _Shown:
    """Builds the data values with which tasks show instances."""

    def __init__(
        self,
        order: ImportOrder,
        instances: QueuedInstances,
        media: Media,
        *,
        tag: ObjectTag,
        documents_root: Path | None,
        uploads: Uploads,
    ) -> None:
        self.refer_by, self.instances, self.media = order.refer_by, instances, media
        self.tag, self.documents_root, self.uploads = tag, documents_root, uploads

    def values(self, chosen: Sequence[Chosen]) -> list[str]:
        """Return the value of the shown field for each task."""
        values: dict[int, str] = {}
        for one in chosen:
            instance = self.instances[one.row][1]
            if not instance.located:
                values[one.row] = instance.source
            elif self.refer_by == "local-files":
                values[one.row] = self._local(one.key, instance.source)
            elif self.refer_by == "url" or (self.refer_by is None and not _is_here(instance.source)):
                values[one.row] = self._address(one.key, instance.source)
        lacking = [one for one in chosen if one.row not in values]
        for one in lacking:
            self._check_kind(one)
        # few files in memory at a time
        for start in range(0, len(lacking), _AT_ONCE):
            some = lacking[start : start + _AT_ONCE]
            addresses = self.uploads.send([self._upload(one) for one in some])
            values.update(zip((one.row for one in some), addresses, strict=True))
        return [values[one.row] for one in chosen]

    def _check_kind(self, one: Chosen) -> None:
        """Refuse a file that the project's tag cannot show; an Image tag gets a picture of any."""
        kind = _WHOLE.get(self.tag.type)
        if kind is not None and kind_of([self.instances[one.row][1].source]) != kind:
            raise InputError(
                f"{one.key} is no {kind}, but the project shows files by {self.tag.type} {self.tag.name!r}; choose a "
                "project with an Image tag"
            )

    def _upload(self, one: Chosen) -> Upload:
        """Read a file; for an Image tag convert it, if necessary, to a picture that browsers display."""
        source = self.instances[one.row][1].source
        name = PurePosixPath(source if source.startswith("/") else unquote(urlsplit(source).path)).name
        try:
            content = self.media.read(self.instances[one.row][1])
            suffix = PurePosixPath(name).suffix.lower()
            if self.tag.type == "Image" and suffix not in SUFFIXES:
                content, name = to_png(content, limits=self.media.limits), f"{name.removesuffix(suffix)}.png"
        except MediaError as error:
            raise RunError(
                f"{one.key} was selected but can no longer be read ({error}); restore it and resume the run"
            ) from error
        return Upload(file_name(one.digest, name), content)

    def _local(self, key: str, source: str) -> str:
        """Return the address of a file under Label Studio's local-files root."""
        root = None if self.documents_root is None else self.documents_root.resolve()
        path = Path(source).resolve()
        if is_inside(source):
            raise InputError(
                f"{key} is inside a Parquet file, which no browser opens; use --import-as upload"
            )
        if root is None or not path.is_relative_to(root):
            below = "is not set" if root is None else f"is {root}"
            raise InputError(
                f"{key} is not under Label Studio's local-files root "
                f"(LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT {below}); use --import-as upload"
            )
        shown = path.relative_to(root).as_posix()
        if proper(shown) != shown:
            raise InputError(
                f"Label Studio finds no file whose name is not UTF-8: {key}; use --import-as upload"
            )
        return f"/data/local-files/?d={quote(shown)}"

    def _address(self, key: str, source: str) -> str:
        """Return the image's own address."""
        if _is_here(source):
            raise InputError(f"{key} is a local file without a URL; use --import-as upload")
        return source


def _is_here(source: str) -> bool:
    """Return True for a file of this host, or a picture inside one: no browser can open it."""
    return source.startswith("/") or is_inside(source)

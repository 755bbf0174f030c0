"""A run over a pool outside Label Studio: a folder, a manifest or vectors. Its result is a table of the picks.

Where it is asked for, the picks become tasks of a project (`sinks.tasks`); no other task is made there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.embedding.cluster import Locator
from usl_backend.errors import InputError, MediaError
from usl_backend.instances import Instance, Modality, Pool
from usl_backend.media import Location, MediaLimits, MediaReader
from usl_backend.pipeline.run import Execution
from usl_backend.runs import ManifestRow
from usl_backend.runs.artifacts import written_whole
from usl_backend.settings import resolve_budget
from usl_backend.sinks.tasks import deliver
from usl_backend.sources import Listing, Target, VectorFile, read_manifest
from usl_backend.sources.folder import describe
from usl_backend.sources.project import Project
from usl_backend.studio.label_config import parse

if TYPE_CHECKING:
    from usl_backend.runs import Run, RunStore
    from usl_backend.runs.progress import Progress
    from usl_backend.selection.base import Selection
    from usl_backend.settings import HostSettings
    from usl_backend.studio.client import StudioClient

TABLE: Final = "selection.csv"
"""The picks, in the run's directory."""
COLUMNS: Final = ("rank", "id", "source", "role", "score", "cluster", "stands_for")
LARGEST: Final = 1 << 30
"""Bytes of a manifest or of vectors that are downloaded; larger ones have to be fetched by other means."""
LONGEST: Final = 3_600.0
"""Seconds for that."""
VECTORS: Final = "vectors"
"""Stands in place of an encoder's name where the pool has its embeddings with it."""
_EVERY: Final = 1_024


class OutsideExecution(Execution):
    """One attempt at one run over a pool outside Label Studio."""

    def __init__(
        self, run: Run, store: RunStore, host: HostSettings, report: Progress, client: StudioClient | None
    ) -> None:
        super().__init__(run, store, host, report)
        self.client = client
        self.target = Target.from_json(run.target)
        self.meta: Mapping[str, Any] = {}
        self.vectors: VectorFile | None = None

    # fetch

    def _fetch(self) -> tuple[Sequence[Instance], Project]:
        if not self.files.has_instances():
            with self._stage("fetch", "reading the list"):
                opened = read_manifest(
                    self.target, local=self._local(), progress=self.report.of("fetch", "looking at files")
                )
                if isinstance(opened, VectorFile):
                    self.vectors = opened
                    self.files.write_instances([], self._vector_meta(opened))
                else:
                    with self.files.writing_rows() as put:
                        listed = _Listed(opened)
                        self.files.write_instances(
                            listed.instances(put, self._reading), lambda: self._meta(listed)
                        )
                self.report.kept()
        instances, meta = self.files.read_instances()
        self.meta = meta["outside"]
        project = Project.from_json(meta)
        if self.meta["modality"] != VECTORS:
            _check(project, self.target.address, len(instances) - len(project.labeled))
            resolve_budget(
                self.settings.budget, classes=len(project.classes), pool=len(instances) - len(project.labeled)
            )
        return instances, project

    def _local(self) -> Path | None:
        """A copy of a manifest or of vectors that lie elsewhere, in the run's directory; None where none is needed."""
        if not self.target.remote or self.target.kind == "folder":
            return None
        path = self.files.directory / f"manifest{Path(self.target.address.partition('?')[0]).suffix.lower()}"
        if not path.is_file():
            self.report("fetch", 0, 0, "downloading")
            limits = MediaLimits(bytes=LARGEST, seconds=LONGEST)
            with (
                MediaReader(
                    limits=limits, allowed_hosts=self.host.allowed_hosts, object_stores=True
                ) as reader,
                written_whole(path) as stream,
            ):
                try:
                    stream.write(reader.read(Location(url=self.target.address)))
                except MediaError as error:
                    raise InputError(f"{self.target.address} cannot be had: {error}") from error
        return path

    def _reading(self, done: int) -> None:
        self.report("fetch", done, 0, "reading the list")

    def _meta(self, listed: _Listed) -> dict[str, Any]:
        """What is known of the pool once its list was read."""
        project = self._project(
            listed.listing.data_key,
            listed.listing.modality,
            rows=listed.rows,
            labeled=listed.labeled,
            skipped=listed.skipped,
        )
        outside = {
            "modality": listed.listing.modality,
            "roots": [str(root) for root in listed.listing.roots],
            "passed_over": describe(listed.listing.passed_over),
            "with_label": len(listed.labeled),
        }
        return {**project.to_json(), "outside": outside}

    def _vector_meta(self, file: VectorFile) -> dict[str, Any]:
        """The same of a vector file, whose rows are looked at when they are read."""
        labeled = [row for row, label in enumerate(file.labels or ()) if label is not None]
        project = self._project("", "image", rows=file.rows, labeled=labeled, skipped={})
        outside = {"modality": VECTORS, "roots": [], "passed_over": "", "with_label": len(labeled)}
        return {**project.to_json(), "outside": outside}

    def _project(
        self,
        data_key: str,
        modality: Modality,
        *,
        rows: int,
        labeled: Sequence[int],
        skipped: Mapping[int, str],
    ) -> Project:
        """The pool as the stages know a project; its classes are those of the project that it is imported to."""
        classes: tuple[str, ...] = ()
        held = tuple(labeled) if self.settings.keep_labels else ()
        if self.client is not None:
            classes = tuple(parse(self.client.project(self.run.target["import_to"]).label_config).classes)
        return Project(
            id=0,
            key="",
            title=self.target.address,
            classes=classes,
            data_key=data_key,
            fields=((data_key, modality, 1.0),),
            tasks=rows,
            annotated=len(held),
            labeled=held,
            skipped=skipped,
        )

    # embed

    def _embed(self, instances: Sequence[Instance], project: Project) -> tuple[Pool, list[str], str]:
        if self.meta["modality"] != VECTORS:
            return super()._embed(instances, project)
        if not self.files.has_pool():
            with self._stage("embed", "reading vectors"):
                opened = self.vectors or read_manifest(self.target, local=self._local())
                assert isinstance(opened, VectorFile)
                read = opened.read(self.files.embeddings, progress=self.report.of("embed", "reading vectors"))
                self._keep_rows(read.keys, read.labels)
                self.files.write_vectors(read.pool, read.digest)
                self.report.kept()
                self._count_tasks(read=len(read.pool), skipped=len(read.pool.skipped), encoded=0)
        pool, hashes = self.files.read_pool()
        return pool, hashes, VECTORS

    def _keep_rows(self, keys: Sequence[str] | None, labels: Sequence[str | None] | None) -> None:
        """Note the ids and classes that came with vectors."""
        if keys is None and labels is None:
            return
        with self.files.writing_rows() as put:
            for row in range(len(keys or labels or ())):
                put(
                    ManifestRow(
                        row,
                        keys[row] if keys is not None else str(row),
                        labels[row] if labels is not None else None,
                    )
                )

    def _locate(self, instance: Instance) -> Location:
        return locate(instance)

    def _locator(self) -> Locator:
        return locator

    def _roots(self) -> tuple[Path, ...]:
        return tuple(Path(root) for root in self.meta["roots"])

    # publish

    def _published(
        self,
        pool: Pool,
        project: Project,
        selection: Selection,
        labeled: np.ndarray[Any, Any],
        control: np.ndarray[Any, Any],
    ) -> dict[str, Any]:
        published = super()._published(pool, project, selection, labeled, control)
        if not (self.files.directory / TABLE).is_file():
            rows = table(published["queue"], pool, selection, self._described(published["queue"]))
            with written_whole(self.files.directory / TABLE) as stream:
                stream.write(rows.encode("utf-8", "surrogateescape"))
        return published

    def _publish(
        self, pool: Pool, project: Project, *, picks: list[int], reserve: list[int], control: list[int]
    ) -> dict[str, Any]:
        del pool, project
        chosen, drawn = set(picks), set(control)
        behind = [row for row in control if row not in chosen]
        roles = ["pick"] * len(picks) + ["control"] * len(behind) + ["reserve"] * len(reserve)
        queue: list[dict[str, Any]] = [
            {"task": row, "rank": rank, "role": role} | ({"control": True} if row in drawn else {})
            for rank, (row, role) in enumerate(zip([*picks, *behind, *reserve], roles, strict=True))
        ]
        if self.run.dry_run or self.client is None:
            return {
                "queue": queue, "model_version": None, "view_id": None, "carried_over": [], "warnings": [],
                "verified": None, "imported": None,
            }  # fmt: skip
        with self._reader() as reader:
            return deliver(
                self.client,
                self.run,
                store=self.store,
                queue=queue,
                described=self._described(queue),
                hashes=self._hashes(queue),
                modality=self.meta["modality"],
                read=lambda instance: reader.read(locate(instance)),
                limits=reader.limits,
                documents_root=self.host.label_studio_local_files_document_root,
                progress=self.report.of("publish", "importing the chosen"),
            )

    def _described(self, queue: Sequence[Mapping[str, Any]]) -> dict[int, tuple[str, Instance]]:
        """Row -> the manifest's id and the instance, of the queued ones."""
        wanted = {entry["task"] for entry in queue}
        keys = {row.row: row.key for row in self.files.read_rows() if row.row in wanted}
        if self.meta["modality"] == VECTORS:
            return {row: (keys.get(row, str(row)), Instance(row, "text", "")) for row in wanted}
        instances, _ = self.files.read_instances()
        return {one.id: (keys.get(one.id, str(one.id)), one) for one in instances if one.id in wanted}

    def _hashes(self, queue: Sequence[Mapping[str, Any]]) -> dict[int, str]:
        """Row -> content hash, of the queued ones."""
        pool, hashes = self.files.read_pool()
        wanted = np.asarray([entry["task"] for entry in queue], dtype=np.int64)
        places = np.searchsorted(pool.ids, wanted)
        return {int(row): hashes[place] for row, place in zip(wanted, places.tolist(), strict=True)}

    def _summary(self, summary: dict[str, Any]) -> dict[str, Any]:
        published = self.files.read_published()
        imported = published["imported"]
        into = (
            None
            if imported is None
            else {name: imported[name] for name in ("id", "key", "title", "data_key")}
        )
        if into is not None and summary["tab"] is not None:
            summary["tab"]["url"] = (
                f"{self.host.label_studio_url}/projects/{into['id']}/data?tab={summary['tab']['id']}"
            )
        if self.meta["passed_over"]:
            summary["pool"]["passed_over"] = self.meta["passed_over"]
        summary["warnings"] = [
            *self._own_warnings(summary["skipped"], summary["pool"]["tasks"]),
            *published["warnings"],
        ]
        summary["encoder"] |= {"name": VECTORS} if self.meta["modality"] == VECTORS else {}
        return {**summary, "imported": into, "selection": str(self.files.directory / TABLE)}

    def _own_warnings(self, skipped: Mapping[str, Any], rows: int) -> list[str]:
        """What a user should know although the run went well."""
        found = []
        if skipped["count"]:
            first = skipped["first"][0]
            key = next((row.key for row in self.files.read_rows() if row.row == first["task"]), first["task"])
            found.append(
                f"{skipped['count']:,} of {rows:,} could not be used and were left out; the "
                f"first is {key}: {first['reason']}"
            )
        if self.meta["with_label"] and not self.settings.keep_labels:
            found.append(
                f"{self.meta['with_label']:,} rows have a label and could be chosen all the same; with --keep-labels "
                "they hold their clusters instead"
            )
        return found

    def _versions(self) -> dict[str, str]:
        found = super()._versions()
        return found if self.client is None else {**found, "label-studio": self.client.version()}


class _Listed:
    """A listing as it passes: instances go on, the rest is counted."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.rows = 0
        self.skipped: dict[int, str] = {}
        self.labeled: list[int] = []

    def instances(
        self, put: Callable[[ManifestRow], None], progress: Callable[[int], None]
    ) -> Iterator[Instance]:
        """Entries that can be tried."""
        for entry in self.listing:
            self.rows += 1
            put(ManifestRow(entry.row, entry.key, entry.label))
            if entry.fault is not None:
                self.skipped[entry.row] = entry.fault
                continue
            if entry.label is not None:
                self.labeled.append(entry.row)
            if self.rows % _EVERY == 1:
                progress(self.rows)
            yield Instance(entry.row, entry.modality, entry.source)


def locator(_: MediaReader) -> Callable[[Instance], Location]:
    """`locate`, for workers of a cluster; paths are the same on every node."""
    return locate


def locate(instance: Instance) -> Location:
    """Where the bytes of an instance of a pool outside Label Studio are.

    Raises
    ------
    MediaError
        It has none: it is a text.
    """
    if instance.modality == "text":
        raise MediaError("a text has no file")
    if instance.source.startswith("/"):
        return Location(path=Path(instance.source))
    return Location(url=instance.source)


def table(
    queue: Sequence[Mapping[str, Any]],
    pool: Pool,
    selection: Selection,
    described: Mapping[int, tuple[str, Instance]],
) -> str:
    """The picks, the control set and the reserve as CSV, first to last.

    Columns: `rank` (0 first), `id` (the manifest's own, the path below a folder, or the row), `source`, `role` (pick,
    control, reserve), `score` (the method's, higher = more typical; empty where it has none), `cluster` (rank of the
    pick that stands for it) and `stands_for` (rows of the pool in a pick's cluster; empty for others).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    sizes = np.bincount(selection.cluster[selection.cluster >= 0], minlength=len(selection.indices))
    for entry in queue:
        row = int(np.searchsorted(pool.ids, entry["task"]))
        key, instance = described[entry["task"]]
        score = "" if selection.score is None else f"{float(selection.score[row]):.6g}"
        stands_for = int(sizes[entry["rank"]]) if entry["role"] == "pick" else ""
        writer.writerow(
            [
                entry["rank"],
                key,
                instance.source,
                entry["role"],
                score,
                int(selection.cluster[row]),
                stands_for,
            ]
        )
    return text.getvalue()


def _check(project: Project, address: str, free: int) -> None:
    """Refuse a pool from which nothing can be chosen."""
    if free > 0:
        return
    if project.annotated:
        raise InputError(
            f"every row of {address} that can be read has a label, so nothing is left to choose; without "
            "--keep-labels labels are not looked at"
        )
    row, why = min(project.skipped.items())
    raise InputError(f"none of the {project.tasks:,} rows of {address} can be used (row {row}: {why})")

"""Sink that writes the picks of a pool outside Label Studio to selection.csv."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from usl_backend.instances import Instance
from usl_backend.runs.artifacts import atomic_write
from usl_backend.runs.inventory import VECTORS
from usl_backend.runs.published import Published, PublishedPool
from usl_backend.runs.summary import PoolSummary
from usl_backend.selection.steering import PINNED
from usl_backend.sinks.changes import Changes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usl_backend.instances import Pool, Queue
    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles
    from usl_backend.runs.summary import Summary
    from usl_backend.selection.base import Selection

TABLE: Final = "selection.csv"
"""File name in the run's directory."""
_HALVES: Final = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")
COLUMNS: Final = ("rank", "id", "source", "role", "score", "cluster", "stands_for", "why")


class TableSink:
    """Writes the picks of a run to a table; implements `Sink`.

    Parameters
    ----------
    files
        The run's artifacts.
    """

    def __init__(self, files: RunFiles) -> None:
        self.files = files

    @property
    def path(self) -> Path:
        """Path of the table."""
        return self.files.directory / TABLE

    def changes(self, tasks: Sequence[int]) -> Changes:  # noqa: ARG002 - the protocol's signature
        """Return no changes: nobody labels the rows of a table."""
        return Changes()

    def publish(self, queue: Queue, progress: Progress) -> PublishedPool:  # noqa: ARG002 - a table is written at once
        """Return the queue as published; `complete` writes the table."""
        return PublishedPool(queue)

    def complete(self, published: Published, pool: Pool, selection: Selection) -> None:
        """Write the table."""
        if not self.path.is_file():
            text = table(published.queue, pool, selection, queued_instances(self.files, published.queue))
            with atomic_write(self.path) as stream:
                # File names keep their bytes; half an emoji, which JSON can hold, has none.
                text = _HALVES.sub(lambda half: f"\\u{ord(half[0]):04x}", text)
                stream.write(text.encode("utf-8", "surrogateescape"))

    def describe(self, summary: Summary, published: Published) -> Summary:
        """Add the path of the table and the project that received the picks."""
        assert isinstance(published, PublishedPool)
        common = {field.name: getattr(summary, field.name) for field in fields(summary)}
        return PoolSummary(**common, imported=published.imported, selection=str(self.path))

    def versions(self) -> Mapping[str, str]:
        """Return nothing: no external software holds the queue."""
        return {}


def queued_instances(files: RunFiles, queue: Queue) -> dict[int, tuple[str, Instance]]:
    """Return row -> (id given by the manifest, instance) for the queued rows."""
    wanted = set(queue.instances)
    keys = {row.row: row.key for row in files.read_rows() if row.row in wanted}
    outside = files.read_inventory().outside
    if outside is not None and outside.modality == VECTORS:
        return {row: (keys.get(row, str(row)), Instance(row, "text", "")) for row in wanted}
    return {
        one.id: (keys.get(one.id, str(one.id)), one) for one in files.read_instances() if one.id in wanted
    }


def table(
    queue: Queue, pool: Pool, selection: Selection, instances: Mapping[int, tuple[str, Instance]]
) -> str:
    """Format a queue as CSV in rank order.

    Columns: `rank` (0 first), `id` (given by the manifest, path relative to the folder, or row number), `source`,
    `role` (pick, control, reserve), `score` (of the method, higher = more typical; empty if it has none), `cluster`
    (rank of the pick that represents it), `stands_for` (number of pool rows in a pick's cluster; empty for others) and
    `why` ("pinned" for a pick by request, else empty).

    Parameters
    ----------
    queue
        Queue of row ids.
    pool, selection
        Pool and selection of the run.
    instances
        Result of `queued_instances`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    pinned = set(selection.diagnostics.get(PINNED, ()))
    sizes = np.bincount(selection.cluster[selection.cluster >= 0], minlength=len(selection.indices))
    for place in queue.places:
        row = int(np.searchsorted(pool.ids, place.instance))
        key, instance = instances[place.instance]
        score = "" if selection.score is None else f"{float(selection.score[row]):.6g}"
        stands_for = int(sizes[place.rank]) if place.role == "pick" else ""
        cluster = int(selection.cluster[row])
        why = "pinned" if row in pinned else ""
        writer.writerow([place.rank, key, instance.source, place.role, score, cluster, stands_for, why])
    return text.getvalue()

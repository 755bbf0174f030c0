"""Picks of a pool outside Label Studio become a table, selection.csv."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from usl_backend.instances import Instance
from usl_backend.runs.artifacts import written_whole
from usl_backend.runs.inventory import VECTORS
from usl_backend.runs.published import Published, PublishedPool
from usl_backend.runs.summary import PoolSummary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.instances import Pool, Queue
    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles
    from usl_backend.runs.summary import Summary
    from usl_backend.selection.base import Selection

TABLE: Final = "selection.csv"
"""In the run's directory."""
COLUMNS: Final = ("rank", "id", "source", "role", "score", "cluster", "stands_for")


class TableSink:
    """Writes the picks of a run to a table; a `Sink`.

    Parameters
    ----------
    files
        The run's artifacts.
    """

    def __init__(self, files: RunFiles) -> None:
        self.files = files

    @property
    def path(self) -> Path:
        """Where the table is written."""
        return self.files.directory / TABLE

    def publish(self, queue: Queue, progress: Progress) -> PublishedPool:  # noqa: ARG002 - a table is written at once
        """Publish nothing but the queue itself."""
        return PublishedPool(queue)

    def complete(self, published: Published, pool: Pool, selection: Selection) -> None:
        """Write the table."""
        if not self.path.is_file():
            text = table(published.queue, pool, selection, queued_instances(self.files, published.queue))
            with written_whole(self.path) as stream:
                stream.write(text.encode("utf-8", "surrogateescape"))

    def describe(self, summary: Summary, published: Published) -> Summary:
        """Name the table, and where the picks were imported to."""
        assert isinstance(published, PublishedPool)
        common = {field.name: getattr(summary, field.name) for field in fields(summary)}
        return PoolSummary(**common, imported=published.imported, selection=str(self.path))

    def versions(self) -> Mapping[str, str]:
        """No other software holds the queue."""
        return {}


def queued_instances(files: RunFiles, queue: Queue) -> dict[int, tuple[str, Instance]]:
    """Row -> the manifest's own id and the instance, of the queued rows."""
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
    """Write a queue as CSV, first to last.

    Columns: `rank` (0 first), `id` (the manifest's own, the path below a folder, or the row), `source`, `role` (pick,
    control, reserve), `score` (the method's, higher = more typical; empty where it has none), `cluster` (rank of the
    pick that stands for it) and `stands_for` (rows of the pool in a pick's cluster; empty for others).

    Parameters
    ----------
    queue
        Of rows.
    pool, selection
        Of the run.
    instances
        As `queued_instances` gives them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    sizes = np.bincount(selection.cluster[selection.cluster >= 0], minlength=len(selection.indices))
    for place in queue.places:
        row = int(np.searchsorted(pool.ids, place.instance))
        key, instance = instances[place.instance]
        score = "" if selection.score is None else f"{float(selection.score[row]):.6g}"
        stands_for = int(sizes[place.rank]) if place.role == "pick" else ""
        cluster = int(selection.cluster[row])
        writer.writerow([place.rank, key, instance.source, place.role, score, cluster, stands_for])
    return text.getvalue()

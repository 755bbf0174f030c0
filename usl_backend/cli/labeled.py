"""Labeled rows of a project, a manifest or a vector file, for `evaluate`. Nothing is compared here."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from usl_backend.errors import InputError, MediaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usl_backend.instances import EmbeddedField, Instance, Pool
    from usl_backend.settings import HostSettings, RunSettings
    from usl_backend.sources import Listing, Target, VectorFile
    from usl_backend.sources.media import Media


@dataclass(frozen=True)
class Reading:
    """How labeled rows are embedded, where they are no vectors yet.

    Attributes
    ----------
    host
        Address, directories and limits.
    settings
        `encoder`, `image_size` and `data_key` matter here.
    quiet
        Show no progress.
    """

    host: HostSettings
    settings: RunSettings
    quiet: bool = False

    def project(self, target: str, *, control: str | None) -> tuple[NDArray[np.float32], list[str]]:
        """Embeddings and labels of a project's labeled tasks.

        Parameters
        ----------
        target
            Number or address of the project.
        control
            Choices tag to read, where there are several.

        Returns
        -------
        rows : (n, d) float32
        labels : list of str

        Raises
        ------
        InputError
            Nothing is labeled, or the label config has no such classes.
        StudioError
            Label Studio refuses or fails.
        """
        from usl_backend.sources.media import MediaAccess
        from usl_backend.sources.showing import Showing
        from usl_backend.studio.client import StudioClient, parse_target
        from usl_backend.studio.label_config import parse
        from usl_backend.studio.labels import read_labels

        url, project_id = parse_target(target)
        with StudioClient.from_settings(self.host, url=url) as client:
            config = parse(client.project(project_id).label_config)
            shown = Showing.of(config, self.settings)
            tasks = list(client.labeled(project_id))
            by_task = read_labels(tasks, config, control=control).by_task
            instances = []
            for task in sorted(tasks, key=lambda task: task.id):
                if len(by_task.get(task.id, ())) == 1:
                    with contextlib.suppress(MediaError):  # it shows nothing, so it tells nothing
                        instances.append(shown.instance(task.id, task.data))
            if not instances:
                raise InputError(
                    f"no task of project {project_id} has a class; evaluate needs data that is labeled already"
                )
            access = MediaAccess.of_project(self.host, client)
            with access.open(client) as media:
                pool = self._embed(instances, shown.fields, media)
        return _rows(pool, {task: choice[0] for task, choice in by_task.items()})

    def manifest(self, target: Target) -> tuple[NDArray[np.float32], list[str]]:
        """Embeddings and labels of the rows that have a label.

        Parameters
        ----------
        target
            A table with a column of labels, or vectors with labels beside them.

        Returns
        -------
        rows : (n, d) float32
        labels : list of str

        Raises
        ------
        InputError
            It cannot be read, or has no labels.
        """
        from usl_backend.sources import VectorFile, read_manifest

        opened = read_manifest(target)
        return _vectors(opened) if isinstance(opened, VectorFile) else self._listed(opened)

    def _listed(self, listing: Listing) -> tuple[NDArray[np.float32], list[str]]:
        """Rows of a table of pictures or texts."""
        from usl_backend.instances import EmbeddedField, Instance
        from usl_backend.sources.media import MediaAccess

        instances: list[Instance] = []
        labels: dict[int, str] = {}
        for entry in listing:
            if entry.label is not None and entry.fault is None:
                instances.append(Instance(entry.row, entry.modality, entry.source))
                labels[entry.row] = entry.label
        if not instances:
            raise InputError(
                f"no row of {listing.address} has a label; evaluate needs a table with a column of labels "
                "(label, class, category, or --label-key)"
            )
        fields = (EmbeddedField("source", listing.modality, 1.0),)
        with MediaAccess.of_list(self.host, listing.roots).open() as media:
            return _rows(self._embed(instances, fields, media), labels)

    def _embed(self, instances: Sequence[Instance], fields: Sequence[EmbeddedField], media: Media) -> Pool:
        """Embed the instances through the cache that runs share; those that cannot be read drop out.

        Raises
        ------
        InputError
            None of them can be read.
        """
        import numpy as np

        from usl_backend.embedding.encoding import load_encoding
        from usl_backend.encoders.allocator import keep_freed_memory
        from usl_backend.instances import Pool
        from usl_backend.runs.retention import CACHE

        keep_freed_memory()  # before anything imports torch
        host = self.host
        encoding = load_encoding(self.settings, fields, directory=host.encoders)
        total = len(instances) * len(fields)
        with (
            tempfile.TemporaryDirectory() as folder,
            click.progressbar(length=total, label="embedding", hidden=self.quiet) as bar,
        ):
            pool, _ = encoding.embed(
                instances,
                media=media,
                cache_directory=host.model_dir / CACHE,
                directory=Path(folder),
                progress=lambda _step, done, _total: bar.update(max(done - bar.pos, 0)),
                workers=host.media_workers,
            )
            if not len(pool):
                first = min(pool.skipped)
                raise InputError(
                    f"none of the {len(instances)} labeled rows could be read (the first, {first}: "
                    f"{pool.skipped[first]}); make their media readable from this host"
                )
            return Pool(pool.ids, np.array(pool.embeddings, dtype=np.float32), pool.skipped)


def _rows(pool: Pool, labels: dict[int, str]) -> tuple[NDArray[np.float32], list[str]]:
    """Rows of a pool with their labels."""
    import numpy as np

    return np.asarray(pool.embeddings, dtype=np.float32), [labels[row] for row in pool.ids.tolist()]


def _vectors(file: VectorFile) -> tuple[NDArray[np.float32], list[str]]:
    """Rows that came as vectors."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        read = file.read(Path(folder) / "rows.npy")
        labels = read.labels or ()
        ids = read.pool.ids.tolist()
        places = [place for place, row in enumerate(ids) if labels and labels[row] is not None]
        if not places:
            raise InputError(
                f"{file.address} has no labels; evaluate needs an array or column `labels` beside the vectors, or "
                "--label-key"
            )
        rows = np.array(read.pool.embeddings[places], dtype=np.float32)
    return rows, [str(labels[ids[place]]) for place in places]

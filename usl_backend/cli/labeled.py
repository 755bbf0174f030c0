"""Read the labeled rows of a project, a manifest or a vector file, for `evaluate`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
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
class Labeled:
    """Labeled rows.

    Attributes
    ----------
    rows : (n, d) float32
        Embeddings.
    labels : tuple of n str
        Classes.
    warning
        Number of labeled rows left out and the reason of the first; "" if none was.
    """

    rows: NDArray[np.float32]
    labels: tuple[str, ...]
    warning: str = ""


@dataclass(frozen=True)
class LabeledReader:
    """Reader of labeled rows, which embeds them unless they are vectors already.

    Attributes
    ----------
    host
        Host settings: address, directories and limits.
    settings
        Run settings; `encoder`, `image_size` and `data_key` are used.
    quiet
        Hide the progress bar.
    """

    host: HostSettings
    settings: RunSettings
    quiet: bool = False

    def project(self, target: str, *, control: str | None) -> Labeled:
        """Embed a project's labeled tasks.

        Parameters
        ----------
        target
            Id or address of the project.
        control
            Choices tag to read, if there are several.

        Raises
        ------
        InputError
            No task is labeled, no labeled task can be read, or the label config has no classes to read.
        StudioError
            Label Studio refuses a request or fails.
        """
        from usl_backend.sources.media import MediaAccess
        from usl_backend.sources.showing import FIRST_TASKS, Showing
        from usl_backend.studio.client import StudioClient
        from usl_backend.studio.label_config import parse
        from usl_backend.studio.labels import read_labels
        from usl_backend.studio.target import parse_target

        url, project_id = parse_target(target)
        with StudioClient.from_settings(self.host, url=url) as client:
            config = parse(client.project(project_id).label_config)
            tasks = list(client.labeled(project_id))
            shown = Showing.of(config, self.settings, first=[task.data for task in tasks[:FIRST_TASKS]])
            by_task = read_labels(tasks, config, control=control).by_task
            labels = {task: choices[0] for task, choices in by_task.items() if len(choices) == 1}
            if not labels:
                raise InputError(f"no task of project {project_id} has a class; evaluate needs labeled tasks")
            instances, unusable = [], {}
            for task in sorted(tasks, key=lambda task: task.id):
                if task.id in labels:
                    try:
                        instances.append(shown.instance(task.id, task.data))
                    except MediaError as error:
                        unusable[task.id] = str(error)
            with MediaAccess.of_project(self.host, client).open(client) as media:
                pool = self._embed(instances, shown.fields, media)
        return _joined(
            pool,
            labels,
            unusable,
            names={task: f"task {task}" for task in labels},
            what=f"labeled tasks of project {project_id}",
        )

    def manifest(self, target: Target) -> Labeled:
        """Embed the labeled rows of a file.

        Parameters
        ----------
        target
            Table with a column of labels, or file of vectors and labels.

        Raises
        ------
        InputError
            The file cannot be read, has no labels, or none of its labeled rows can be read.
        """
        from usl_backend.sources import VectorFile, read_manifest
        from usl_backend.sources.media import fetched_list

        with tempfile.TemporaryDirectory() as folder:
            opened = read_manifest(target, local=fetched_list(self.host, target, Path(folder)))
            return _vectors(opened) if isinstance(opened, VectorFile) else self._listed(opened)

    def _listed(self, listing: Listing) -> Labeled:
        """Embed the labeled rows of a table of pictures or texts."""
        from usl_backend.sources.entries import field_of, instance_of
        from usl_backend.sources.listed import guess_of
        from usl_backend.sources.media import MediaAccess

        instances: list[Instance] = []
        labels: dict[int, str] = {}
        names: dict[int, str] = {}
        unusable: dict[int, str] = {}
        for entry in listing:
            if entry.label is None:
                continue
            labels[entry.row] = entry.label
            names[entry.row] = _name(entry.key, entry.row)
            if entry.fault is None:
                instances.append(instance_of(entry, listing))
            else:
                unusable[entry.row] = entry.fault
        if not labels:
            raise InputError(
                f"no row of {listing.address} has a label; evaluate needs a table with a column of labels "
                "(label, class, category, or --label-key)"
            )
        fields = (field_of(listing),)
        with MediaAccess.of_list(self.host, listing.roots).open() as media:
            pool = self._embed(instances, fields, media)
        found = _joined(pool, labels, unusable, names=names, what=f"labeled rows of {listing.address}")
        if not listing.guessed_encoding:
            return found
        guess = guess_of(listing.address, listing.guessed_encoding)
        return replace(found, warning="; ".join(filter(None, (guess, found.warning))))

    def _embed(self, instances: Sequence[Instance], fields: Sequence[EmbeddedField], media: Media) -> Pool:
        """Embed the instances, using the cache that runs share; unreadable ones are left out."""
        import numpy as np

        from usl_backend.embedding.choice import encoders_for
        from usl_backend.embedding.encoding import load_encoding
        from usl_backend.encoders.allocator import keep_freed_memory
        from usl_backend.instances import Pool
        from usl_backend.runs.retention import CACHE

        if not instances:
            return Pool(np.empty(0, np.int64), np.empty((0, 0), np.float32), {})
        keep_freed_memory()  # before anything imports torch
        host = self.host
        choice = encoders_for(
            instances,
            fields,
            settings=self.settings,
            open_media=lambda: nullcontext(media),
            directory=host.encoders,
        )
        if choice.warning:
            click.echo(f"warning: {choice.warning}", err=True)
        encoding = load_encoding(self.settings, fields, choice=choice, directory=host.encoders)
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
                missing=host.media_missing,
            )
            return Pool(pool.ids, np.array(pool.embeddings, dtype=np.float32), pool.skipped)


def _joined(
    pool: Pool, labels: Mapping[int, str], unusable: Mapping[int, str], *, names: Mapping[int, str], what: str
) -> Labeled:
    """Join rows with their labels; the warning counts the labeled rows that are missing."""
    warning = _left_out({**unusable, **pool.skipped}, labels, names=names, what=what)
    return Labeled(pool.embeddings, tuple(labels[row] for row in pool.ids.tolist()), warning)


def _left_out(
    skipped: Mapping[int, str], labels: Mapping[int, str], *, names: Mapping[int, str], what: str
) -> str:
    """Describe the labeled rows that could not be read; raise InputError if that is all of them."""
    lost = sorted(row for row in skipped if row in labels)
    if not lost:
        return ""
    first = f"the first is {names[lost[0]]}: {skipped[lost[0]]}"
    if len(lost) == len(labels):
        raise InputError(f"none of the {len(labels):,} {what} can be read; {first}")
    return f"{len(lost):,} of {len(labels):,} {what} could not be read and were left out; {first}"


def _name(key: str, row: int) -> str:
    """Return the name of a row of a list, counted from 0, with its own id if it has one."""
    return f"row {row}" if key == str(row) else f"{key} (row {row})"


def _vectors(file: VectorFile) -> Labeled:
    """Read the labeled rows of a vector file."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        read = file.read(Path(folder) / "rows.npy")
        labels = {row: str(label) for row, label in enumerate(read.labels or ()) if label is not None}
        if not labels:
            raise InputError(
                f"{file.address} has no labels; evaluate needs an array or column `labels` next to the vectors, or "
                "--label-key"
            )
        keys = read.keys
        names = {row: _name(str(row) if keys is None else keys[row], row) for row in labels}
        warning = _left_out(read.pool.skipped, labels, names=names, what=f"labeled rows of {file.address}")
        ids = read.pool.ids.tolist()
        places = [place for place, row in enumerate(ids) if row in labels]
        rows = np.array(read.pool.embeddings[places], dtype=np.float32)
    return Labeled(rows, tuple(labels[ids[place]] for place in places), warning)

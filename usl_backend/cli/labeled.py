"""Rows of a manifest or vector file that have a label, for `evaluate`. Projects are read there; nothing is compared."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from usl_backend.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usl_backend.manifests import Listing, Target, VectorFile
    from usl_backend.settings import HostSettings


def labeled_rows(
    target: Target, host: HostSettings, *, image_size: int | None, quiet: bool
) -> tuple[NDArray[np.float32], list[str]]:
    """Embeddings and labels of the rows that have both.

    Parameters
    ----------
    target
        A table with a column of labels, or vectors with labels beside them.
    host
        Limits, directories.
    image_size
        Side to which pictures are resized, in pixels; None: the encoder's.
    quiet
        Show no progress.

    Returns
    -------
    rows : (n, d) float32
    labels : list of str

    Raises
    ------
    InputError
        It cannot be read, or has no labels.
    """
    from usl_backend.manifests import VectorFile, read_manifest

    opened = read_manifest(target)
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(opened, VectorFile):
            return _vectors(opened, Path(folder))
        return _listed(opened, host, Path(folder), image_size=image_size, quiet=quiet)


def _vectors(file: VectorFile, folder: Path) -> tuple[NDArray[np.float32], list[str]]:
    """Rows that came as vectors."""
    import numpy as np

    read = file.read(folder / "rows.npy")
    labels = read.labels or ()
    places = [place for place, row in enumerate(read.pool.ids.tolist()) if labels and labels[row] is not None]
    if not places:
        raise InputError(
            f"{file.address} has no labels; evaluate needs an array or column `labels` beside the vectors, or "
            "--label-key"
        )
    rows = np.array(read.pool.embeddings[places], dtype=np.float32)
    return rows, [str(labels[row]) for row in read.pool.ids[places].tolist()]


def _listed(
    listing: Listing, host: HostSettings, folder: Path, *, image_size: int | None, quiet: bool
) -> tuple[NDArray[np.float32], list[str]]:
    """Rows whose pictures or texts are embedded now, through the cache that runs share."""
    import numpy as np

    from usl_backend.encoders.allocator import keep_freed_memory
    from usl_backend.instances import Instance
    from usl_backend.media import Location, MediaLimits, MediaReader
    from usl_backend.pipeline.encoding import load_encoding
    from usl_backend.pipeline.retention import CACHE
    from usl_backend.settings import RunSettings

    keep_freed_memory()
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

    def locate(instance: Instance) -> Location:
        local = instance.source.startswith("/")
        return Location(path=Path(instance.source)) if local else Location(url=instance.source)

    settings = RunSettings.resolve(explicit={} if image_size is None else {"image_size": image_size})
    fields = (("source", instances[0].modality, 1.0),)
    encoding = load_encoding(settings, fields, directory=host.encoders)
    limits = MediaLimits(bytes=host.media_max_bytes, seconds=host.media_timeout, pixels=host.media_max_pixels)
    with (
        MediaReader(limits=limits, local_roots=listing.roots, allowed_hosts=host.allowed_hosts) as reader,
        click.progressbar(length=len(instances), label="embedding", hidden=quiet) as bar,
    ):
        pool, _ = encoding.embed(
            instances,
            locate=locate,
            reader=reader,
            cache_directory=host.model_dir / CACHE,
            directory=folder,
            progress=lambda stage, done, total: bar.update(max(done - bar.pos, 0)),  # noqa: ARG005
            workers=host.media_workers,
        )
        rows = np.array(pool.embeddings, dtype=np.float32)
    return rows, [labels[row] for row in pool.ids.tolist()]

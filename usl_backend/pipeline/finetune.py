"""Prepare the training of an encoder: its network, the pool's pictures, and their augmentation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.encoders import DEFAULTS, image_network
from usl_backend.errors import InputError, MediaError
from usl_backend.media import decode_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.instances import Instance, Pool
    from usl_backend.progress import Progress
    from usl_backend.selection.uslt.finetuning import PictureTrainer
    from usl_backend.settings import RunSettings
    from usl_backend.sources.media import Media


PICTURES: Final = "pictures.npy"
"""(n, s, s, 3) uint8, in the run's directory; written to another name first."""
_AHEAD: Final = 64


def wants_pictures(settings: RunSettings) -> bool:
    """Tell whether the method trains the encoder, and so needs the pictures and not only their embeddings."""
    return settings.selector().trains_on == "pictures"


def picture_trainer(
    settings: RunSettings,
    pool: Pool,
    hashes: Sequence[str],
    instances: Sequence[Instance],
    *,
    encoders: Path,
    media: Media,
    directory: Path,
    progress: Progress,
    workers: int,
) -> PictureTrainer:
    """Bring together what mode "finetune" of USL-T trains on.

    Parameters
    ----------
    settings
        Encoder and picture size.
    pool, hashes
        Rows, and the content hash of each.
    instances
        Of the run.
    encoders
        The host's directory of weights.
    media
        Reads the pictures.
    directory
        The run's folder; gets the decoded pictures.
    progress
        Counts pictures.
    workers
        Reading threads.

    Raises
    ------
    InputError
        The pool has texts or several fields, or a picture can no longer be read.
    EncoderError
        The encoder is no torch network for pictures.
    """
    odd = next((one for one in instances if one.modality != "image" or one.parts or one.key), None)
    if odd is not None:
        raise InputError(
            f'mode is "finetune", which trains on one picture per task, but task {odd.id} has '
            f'{"several fields" if odd.parts else f"a {odd.modality}"}; choose mode="heads"'
        )
    network = image_network(
        settings.encoder or DEFAULTS["image"], image_size=settings.image_size, directory=encoders
    )
    from usl_backend.encoders.augmentation import PictureAugmentation
    from usl_backend.encoders.images import backbone_module
    from usl_backend.selection.uslt.finetuning import PictureTrainer

    pictures = pool_pictures(
        pool, hashes, {one.id: one for one in instances}, media=media,
        size=network.size, directory=directory, progress=progress, workers=workers,
    )  # fmt: skip
    return PictureTrainer(pictures, backbone_module(network), PictureAugmentation(network.size))


def pool_pictures(
    pool: Pool,
    hashes: Sequence[str],
    instances: Mapping[int, Instance],
    *,
    media: Media,
    size: int,
    directory: Path,
    progress: Progress,
    workers: int,
) -> NDArray[np.uint8]:
    """Read and decode every picture of the pool once, and map them.

    Parameters
    ----------
    pool, hashes
        Rows, and the content hash of each.
    instances
        By id.
    media
        Reads the pictures; called from threads.
    size
        Side in pixels.
    directory
        The run's folder; gets `pictures.npy` of 3 s^2 bytes per picture.
    progress
        Counts pictures.
    workers
        Reading threads.

    Returns
    -------
    (n, size, size, 3) uint8, memory-mapped read-only

    Raises
    ------
    InputError
        A picture that could be embedded can no longer be read, or is another one now.
    """
    path = directory / PICTURES
    shape = (len(pool), size, size, 3)
    if path.is_file():
        held: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
        if held.shape == shape:
            return held
    partial = path.with_name("." + path.name)
    made: np.memmap[Any, np.dtype[np.uint8]] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        partial, mode="w+", dtype=np.uint8, shape=shape
    )

    def one(row: int) -> NDArray[np.uint8]:
        instance = instances[int(pool.ids[row])]
        try:
            content = media.read(instance)
            if hashlib.sha256(content).hexdigest() != hashes[row]:
                raise MediaError("it is another picture now than when it was embedded")
            return decode_image(content, size=size, limits=media.limits)
        except MediaError as error:
            raise InputError(
                f"task {instance.id} cannot be trained on ({error}); start a new run, which leaves it out"
            ) from error

    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="read") as threads:
        try:
            for begin in range(0, len(pool), _AHEAD):
                rows = range(begin, min(begin + _AHEAD, len(pool)))
                for row, picture in zip(rows, threads.map(one, rows), strict=True):
                    made[row] = picture
                progress("reading pictures", rows.stop, len(pool))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    made.flush()
    del made
    partial.replace(path)
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped

"""Preparation of encoder fine-tuning: the network, the pool's images, and their augmentation."""

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
"""File in the run's directory, (n, s, s, 3) uint8; written under a temporary name first."""
_AHEAD: Final = 64


def trains_on_images(settings: RunSettings) -> bool:
    """Return True if the method trains the encoder, which requires the images in addition to their embeddings."""
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
    """Build the trainer for USL-T's mode "finetune".

    Parameters
    ----------
    settings
        Encoder and image size.
    pool, hashes
        The pool, and the content hash of each row.
    instances
        Instances of the run.
    encoders
        The host's directory of encoder weights.
    media
        Reader of the images.
    directory
        The run's directory; receives the decoded images.
    progress
        Receives the number of images read.
    workers
        Number of reader threads.

    Raises
    ------
    InputError
        The pool has texts or several fields, or an image can no longer be read.
    EncoderError
        The encoder is not a torch network for images.
    """
    odd = next(
        (one for one in instances if one.modality != "image" or one.more or one.fields or one.key), None
    )
    if odd is not None:
        raise InputError(
            f'mode is "finetune", which trains on one image per task, but task {odd.id} has '
            f'{_instead_of_one_image(odd)}; choose mode="heads"'
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
    """Read and decode all images of the pool into one file, and memory-map it.

    Parameters
    ----------
    pool, hashes
        The pool, and the content hash of each row.
    instances
        Instances by id.
    media
        Reader of the images; called from threads.
    size
        Side s of the images in pixels.
    directory
        The run's directory; receives `pictures.npy`, 3 s^2 bytes per image.
    progress
        Receives the number of images read.
    workers
        Number of reader threads.

    Returns
    -------
    (n, size, size, 3) uint8, memory-mapped read-only

    Raises
    ------
    InputError
        An image can no longer be read, or has changed since it was embedded.
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
                raise MediaError("it has changed since it was embedded")
            return decode_image(content, size=size, limits=media.limits)
        except MediaError as error:
            raise InputError(
                f"the image of task {instance.id} cannot be used for training ({error}); start a new run, "
                "which skips it"
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


def _instead_of_one_image(instance: Instance) -> str:
    """Say what an instance shows instead of one image."""
    if instance.fields:
        return "several fields"
    return f"{len(instance.sources)} images" if instance.modality == "image" else f"a {instance.modality}"

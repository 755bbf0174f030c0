"""Prepare the training of an encoder: its network, the pool's pictures, and their augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from usl_backend.encoders import DEFAULTS, image_network
from usl_backend.errors import InputError
from usl_backend.pipeline.pictures import pool_pictures

if TYPE_CHECKING:
    from usl_backend.instances import Instance, Pool
    from usl_backend.media import Location, MediaReader
    from usl_backend.selection.uslt.finetuning import PictureTrainer
    from usl_backend.settings import RunSettings


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
    locate: Callable[[Instance], Location],
    reader: MediaReader,
    directory: Path,
    progress: Callable[[int, int], None],
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
    locate, reader
        Where an instance's bytes are, and what reads them.
    directory
        The run's folder; gets the decoded pictures.
    progress
        Called as `progress(pictures read, n)`.
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
        pool, hashes, {one.id: one for one in instances}, read=lambda one: reader.read(locate(one)),
        size=network.size, limits=reader.limits, directory=directory, progress=progress, workers=workers,
    )  # fmt: skip
    return PictureTrainer(pictures, backbone_module(network), PictureAugmentation(network.size))

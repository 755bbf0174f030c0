"""The demo's pictures: 1,200 of Fashion-MNIST with their true classes.

`data/fashion-mnist.npz` is a uniform sample of the training set (MIT license, in the same folder).
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASSES: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
"""Class names; a label is an index into this tuple."""


class Dataset(NamedTuple):
    """Pictures and their true classes.

    Attributes
    ----------
    images : (n, 28, 28) uint8
        Grey levels; 0 is the background.
    labels : (n,) int64
        Indices into `classes`.
    classes : tuple of str
        The ten class names.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


def load() -> Dataset:
    """Read the bundled pictures.

    Returns
    -------
    Dataset
        1,200 pictures; unpacks as `images, labels, classes`.
    """
    with (
        resources.as_file(resources.files(__package__) / "data" / "fashion-mnist.npz") as path,
        np.load(path, allow_pickle=False) as archive,
    ):
        return Dataset(archive["images"], archive["labels"].astype(np.int64), CLASSES)


def write_images(directory: Path, *, side: int = 28) -> list[Path]:
    """Write the pictures as PNG files named `0000.png`, `0001.png` and so on; existing files are kept.

    Parameters
    ----------
    directory
        Folder for the files; created if missing.
    side
        Height and width of the files, in pixels; more than 28 is easier to see.

    Returns
    -------
    list of Path
        One file per row of `load`, in the same order.
    """
    images = load().images
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{row:04d}.png" for row in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        if not path.exists():
            picture = Image.fromarray(pixels)
            if side != pixels.shape[0]:
                picture = picture.resize((side, side), Image.Resampling.BICUBIC)
            temporary = path.with_suffix(".tmp")
            picture.save(temporary, "PNG")
            temporary.replace(path)
    return paths

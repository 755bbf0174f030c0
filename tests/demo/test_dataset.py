from pathlib import Path

import numpy as np
from PIL import Image

from usl_backend.demo import dataset


def test_load__is_the_real_data() -> None:
    images, labels, classes = dataset.load()
    assert images.shape == (1200, 28, 28)
    assert images.dtype == np.uint8
    assert len(classes) == 10
    # A uniform draw from ten equal classes: uneven, but no class is rare.
    counts = np.bincount(labels, minlength=10)
    assert counts.min() > 80
    assert counts.max() > counts.min()
    assert len({image.tobytes() for image in images}) == 1200


def test_load__labels_belong_to_their_images() -> None:
    images, labels, classes = dataset.load()
    pixels = images.reshape(len(images), -1).astype(np.float64)
    squared = (pixels**2).sum(axis=1)
    apart = squared[:, None] + squared[None, :] - 2.0 * pixels @ pixels.T
    np.fill_diagonal(apart, np.inf)
    agreement = float((labels[apart.argmin(axis=1)] == labels).mean())
    assert agreement > 0.7  # chance is 0.1; swapped or shifted labels fall to that
    trousers, bags = classes.index("Trouser"), classes.index("Bag")
    assert images[labels == trousers][:, :, :4].mean() < images[labels == bags][:, :, :4].mean()


def test_write_images__files_hold_the_pixels_in_order(tmp_path: Path) -> None:
    images, _, _ = dataset.load()
    paths = dataset.write_images(tmp_path / "new")
    assert [path.name for path in paths[:2]] == ["0000.png", "0001.png"]
    assert sorted(paths) == paths == sorted((tmp_path / "new").iterdir())
    for row in (0, 599, 1199):
        with Image.open(paths[row]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), images[row])


def test_write_images__second_time_leaves_files_alone(tmp_path: Path) -> None:
    first = dataset.write_images(tmp_path)
    before = [path.stat().st_mtime_ns for path in first]
    first[3].unlink()
    assert dataset.write_images(tmp_path) == first
    after = [path.stat().st_mtime_ns for path in first]
    assert [row for row in range(len(first)) if before[row] != after[row]] == [3]


def test_write_images__larger_for_eyes(tmp_path: Path) -> None:
    paths = dataset.write_images(tmp_path, side=112)
    with Image.open(paths[0]) as picture:
        assert picture.size == (112, 112)

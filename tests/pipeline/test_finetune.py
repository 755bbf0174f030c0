"""Finetuning on real pictures with the real encoder; only Label Studio is played, as in test_run.py."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from usl_backend.demo.dataset import write_images
from usl_backend.errors import CancelledError, InputError, MediaError
from usl_backend.instances import Instance, Pool
from usl_backend.media import MediaLimits, decode_image
from usl_backend.pipeline.finetune import PICTURES, picture_trainer, pool_pictures, trains_on_images
from usl_backend.progress import ignore
from usl_backend.settings import RunSettings
from usl_backend.sources.media import MediaAccess

SIZE = 32
LIMITS = MediaLimits()


@dataclass
class Played:
    """Media whose bytes a function gives."""

    read: Callable[[Instance], bytes]
    limits: MediaLimits = LIMITS


def settings(**explicit: object) -> RunSettings:
    return RunSettings.resolve(explicit=explicit, environ={})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    write_images(made)
    return made


def few(folder: Path, n: int = 70) -> tuple[Pool, list[str], dict[int, Instance]]:
    ids = np.arange(1, n + 1) * 3
    instances = {
        int(one): Instance(int(one), "image", f"{number:04d}.png") for number, one in enumerate(ids, 1)
    }
    hashes = [hashlib.sha256((folder / one.source).read_bytes()).hexdigest() for one in instances.values()]
    return Pool(ids, np.eye(n, 4, dtype=np.float32)), hashes, instances


def test_trains_on_images__only_the_mode_that_trains_the_encoder() -> None:
    assert not trains_on_images(settings())
    assert not trains_on_images(settings(method="usl-t"))
    assert trains_on_images(settings(method="usl-t", mode="finetune"))
    assert trains_on_images(settings(method="usl-t", preset="paper-cifar10"))
    assert not trains_on_images(settings(method="usl-t", preset="paper-cifar10", mode="heads"))


def test_pool_pictures__are_those_of_the_rows_and_kept(folder: Path, tmp_path: Path) -> None:
    pool, hashes, instances = few(folder)
    told: list[tuple[str, int, int]] = []
    reads: list[int] = []

    def read(instance: Instance) -> bytes:
        reads.append(instance.id)
        return (folder / instance.source).read_bytes()

    def pictures() -> np.ndarray:
        return pool_pictures(
            pool, hashes, instances, media=Played(read), size=SIZE, directory=tmp_path,  # type: ignore[arg-type]
            progress=lambda *step: told.append(step), workers=2,
        )  # fmt: skip

    made = pictures()
    assert told == [("reading pictures", 64, 70), ("reading pictures", 70, 70)]
    for row in (0, 33, 69):
        content = (folder / f"{row + 1:04d}.png").read_bytes()
        assert np.array_equal(made[row], decode_image(content, size=SIZE, limits=LIMITS))
    assert np.array_equal(pictures(), made)
    assert len(reads) == 70
    assert [path.name for path in tmp_path.iterdir()] == [PICTURES]


@pytest.mark.parametrize("fault", ["gone", "changed"])
def test_pool_pictures__what_cannot_be_trained_on_is_named(folder: Path, tmp_path: Path, fault: str) -> None:
    pool, hashes, instances = few(folder)

    def read(instance: Instance) -> bytes:
        if instance.id == 30 and fault == "gone":
            raise MediaError("studio.test answered 404 Not Found")
        number = 1 if instance.id == 30 else instance.id // 3
        return (folder / f"{number:04d}.png").read_bytes()

    with pytest.raises(InputError, match=r"task 30 .*(404|it has changed).*new run"):
        pool_pictures(
            pool, hashes, instances, media=Played(read), size=SIZE, directory=tmp_path,  # type: ignore[arg-type]
            progress=lambda *_: None, workers=2,
        )  # fmt: skip
    assert not (tmp_path / PICTURES).exists()


def test_pool_pictures__stops_where_it_is_told_to(folder: Path, tmp_path: Path) -> None:
    pool, hashes, instances = few(folder)

    def stop(step: str, done: int, total: int) -> None:
        raise CancelledError("enough")

    with pytest.raises(CancelledError):
        pool_pictures(
            pool, hashes, instances, media=Played(lambda one: (folder / one.source).read_bytes()),  # type: ignore[arg-type]
            size=SIZE, directory=tmp_path, progress=stop, workers=2,
        )  # fmt: skip
    assert not (tmp_path / PICTURES).exists()


def test_picture_trainer__texts_and_several_fields_are_refused(tmp_path: Path) -> None:
    pool, chosen = Pool(np.array([4]), np.ones((1, 2), np.float32)), settings(method="usl-t", mode="finetune")
    for odd, named in (
        (Instance(4, "text", "words"), "a text"),
        (Instance(4, "image", "a.png", fields=(("b.png",),)), "several fields"),
        (Instance(4, "image", "a.png", ("b.png",)), "2 images"),
    ):
        with MediaAccess().open() as media, pytest.raises(InputError, match=rf"task 4 has {named}"):
            picture_trainer(
                chosen, pool, ["00"], [odd], encoders=tmp_path, media=media, directory=tmp_path,
                progress=ignore, workers=1,
            )  # fmt: skip

"""What a demo selects from, pictures or texts, under one face. The data themselves and their import are elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from usl_backend.demo import dataset, project, texts

if TYPE_CHECKING:
    from usl_backend.studio.client import StudioClient

PICTURE_SIDE: Final = 112
"""Pixels; four times that of the data set, which is easier on people's eyes."""


@dataclass(frozen=True)
class Material:
    """A real, labeled data set.

    Attributes
    ----------
    title
        Of the project.
    contents
        What is in it, for people.
    classes
        Names of the classes.
    truth
        Class of each instance, by its number.
    label_config
        The project's.
    control
        `from_name` and `to_name` of the label config's choices.
    thing
        What one instance is called.
    fill
        Imports what is missing into a project, with a folder for its files; gives task id -> number.
    """

    title: str
    contents: str
    classes: tuple[str, ...]
    truth: tuple[str, ...]
    label_config: str
    control: Mapping[str, str]
    thing: str
    fill: Callable[[StudioClient, int, Path], dict[int, int]]


def pictures() -> Material:
    """Fashion-MNIST."""
    data = dataset.load()

    def fill(client: StudioClient, project_id: int, folder: Path) -> dict[int, int]:
        files = dataset.write_images(folder / "pictures", side=PICTURE_SIDE)
        return project.fill(client, project_id, files)

    return Material(
        title=project.TITLE,
        contents=f"{len(data.images):,} pictures of {project.TITLE}",
        classes=data.classes,
        truth=tuple(data.classes[label] for label in data.labels),
        label_config=project.label_config(data.classes),
        control=project.CONTROL,
        thing="picture",
        fill=fill,
    )


def sentences() -> Material:
    """Descriptions of Debian packages."""
    packages = texts.load()
    classes = texts.classes_of(packages)
    return Material(
        title=texts.TITLE,
        contents=f"{len(packages):,} descriptions of {texts.TITLE}",
        classes=classes,
        truth=tuple(package.section for package in packages),
        label_config=project.label_config(classes, "text"),
        control=texts.CONTROL,
        thing="text",
        fill=lambda client, project_id, _: texts.fill(client, project_id, packages),
    )


MATERIALS: Final[dict[str, Callable[[], Material]]] = {"images": pictures, "text": sentences}
"""Value of `--data` -> what is selected from."""

"""Data sets of the demo, pictures or texts, as one type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from usl_backend.demo import dataset, project, texts

if TYPE_CHECKING:
    from usl_backend.studio.client import StudioClient

PICTURE_SIDE: Final = 112
"""Side of the uploaded pictures, in pixels; four times that of the data set, which is easier to see."""


@dataclass(frozen=True)
class Material:
    """Labeled data set with the project to show it in.

    Attributes
    ----------
    title
        Title of the project.
    contents
        Description of the data, for people.
    classes
        Names of the classes.
    truth
        True class of each instance, by its number.
    label_config
        Label config of the project.
    control
        `from_name` and `to_name` of the label config's choices.
    thing
        Word for one instance, such as "picture".
    fill
        Function (client, project id, folder for files) that imports the missing instances; returns task id -> number.
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
    """Return the pictures of Fashion-MNIST."""
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
    """Return the descriptions of Debian packages."""
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
"""Data sets by value of `--data`."""

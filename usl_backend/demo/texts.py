"""The demo's texts: 1,200 one-line descriptions of Debian packages, with their sections as classes.

`data/debian-packages.csv` is a uniform sample of Debian's main archive (free licenses, listed in the same folder).
"""

from __future__ import annotations

import csv
from importlib import resources
from typing import TYPE_CHECKING, Final, NamedTuple

from usl_backend.errors import StudioError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usl_backend.studio.client import StudioClient

TITLE: Final = "Debian packages"
CONTROL: Final = {"from_name": "label", "to_name": "text"}


class Package(NamedTuple):
    """Description of a package and its class.

    Attributes
    ----------
    name, section, description
        Fields of a package; the section is its class.
    """

    name: str
    section: str
    description: str


def load() -> list[Package]:
    """Read the 1,200 bundled texts, sorted by source package."""
    text = (resources.files(__package__) / "data" / "debian-packages.csv").read_text("utf-8")
    return [Package(*row) for row in list(csv.reader(text.splitlines()))[1:]]


def classes_of(packages: Sequence[Package]) -> tuple[str, ...]:
    """Return the sections, sorted by name."""
    return tuple(sorted({package.section for package in packages}))


def fill(client: StudioClient, project_id: int, packages: Sequence[Package]) -> dict[int, int]:
    """Import the texts that the project does not have yet.

    Parameters
    ----------
    client
        Client of the demo's administrator.
    project_id
        The demo's project.
    packages
        Result of `load`.

    Returns
    -------
    dict of int to int
        Task id -> number of its text; tasks that the demo did not import are left out.

    Raises
    ------
    StudioError
        Label Studio created fewer tasks than there were texts.
    """
    numbers = {package.name: number for number, package in enumerate(packages)}
    present = {name for name, _ in _names(client, project_id)}
    missing = [package for package in packages if package.name not in present]
    if missing:
        body = [{"data": {"text": package.description, "package": package.name}} for package in missing]
        made = client.http.json("POST", f"/api/projects/{project_id}/import", body=body)["task_count"]
        if made != len(missing):
            raise StudioError(
                f"Label Studio created {made} tasks from {len(missing)} texts; start the demo again"
            )
    return {task: numbers[name] for name, task in _names(client, project_id) if name in numbers}


def _names(client: StudioClient, project_id: int) -> list[tuple[str, int]]:
    """Return package name and task id of every task."""
    tasks = client.tasks(project_id, data_key="package", only_unlabeled=False)
    return [(str(task.data.get("package", "")), task.id) for task in tasks]

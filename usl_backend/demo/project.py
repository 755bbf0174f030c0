"""The demo's project: find or create it, and upload its pictures as the UI does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal
from xml.sax.saxutils import quoteattr

from usl_backend.errors import StudioError, StudioNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from usl_backend.progress import Progress
    from usl_backend.studio.client import StudioClient

TITLE = "Fashion-MNIST"
CONTROL = {"from_name": "label", "to_name": "image"}
# Django, which Label Studio uses, accepts at most 100 files per request.
FILES_PER_REQUEST = 100


def label_config(classes: Sequence[str], modality: Literal["image", "text"] = "image") -> str:
    """Return the label config of a classification task.

    Parameters
    ----------
    classes
        Names of the classes, in button order.
    modality
        Kind of data; also the name of the tag and of the field in the tasks' data.

    Returns
    -------
    str
        Label config as XML.
    """
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    return (
        f'<View>\n  <{modality.capitalize()} name="{modality}" value="${modality}"/>\n'
        f'  <Choices name="{CONTROL["from_name"]}" toName="{modality}" choice="single" showInLine="true">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def find_or_create(client: StudioClient, project_id: int | None, *, title: str, config: str) -> int:
    """Return the id of the demo's project; create the project if it does not exist (any more).

    Parameters
    ----------
    client
        Client of the demo's administrator.
    project_id
        Project id of the last start, if any.
    title, config
        Title and label config of a new project.

    Returns
    -------
    int
        Project id.
    """
    if project_id is not None:
        try:
            return client.project(project_id).id
        except StudioNotFoundError:
            pass  # it was deleted in the UI
    body = {"title": title, "label_config": config}
    return int(client.http.json("POST", "/api/projects/", body=body)["id"])


def indices(client: StudioClient, project_id: int) -> dict[int, int]:
    """Return the number of the picture of each task.

    Parameters
    ----------
    client
        Client of a user with access to the project.
    project_id
        The demo's project.

    Returns
    -------
    dict of int to int
        Task id -> number in the data set; tasks that the demo did not upload are left out.
    """
    found = {}
    for task in client.tasks(project_id, data_key="image", only_unlabeled=False):
        # Label Studio adds a random prefix to an uploaded file's name.
        match = re.search(r"-(\d+)\.png$", str(task.data.get("image", "")))
        if match:
            found[task.id] = int(match[1])
    return found


def fill(
    client: StudioClient,
    project_id: int,
    pictures: Sequence[Path],
    *,
    progress: Progress | None = None,
) -> dict[int, int]:
    """Upload the pictures that the project does not have yet.

    Parameters
    ----------
    client
        Client of the demo's administrator.
    project_id
        The demo's project.
    pictures
        PNG files named by their numbers, as written by `dataset.write_images`.
    progress
        Called with the number of pictures uploaded and of all pictures.

    Returns
    -------
    dict of int to int
        Task id -> number of the picture, as returned by `indices`.

    Raises
    ------
    StudioError
        Label Studio created fewer tasks than there were files.
    """
    known = indices(client, project_id)
    present = set(known.values())
    missing = [path for path in pictures if int(path.stem) not in present]
    if not missing:
        return known
    for start in range(0, len(missing), FILES_PER_REQUEST):
        batch = missing[start : start + FILES_PER_REQUEST]
        # One field per file: Label Studio keeps only the last of several files in one field.
        files = {path.name: (path.name, path.read_bytes(), "image/png") for path in batch}
        made = client.http.json("POST", f"/api/projects/{project_id}/import", files=files)["task_count"]
        if made != len(batch):
            raise StudioError(
                f"Label Studio created {made} tasks from {len(batch)} uploaded pictures; start the demo again"
            )
        if progress:
            progress("uploading", len(pictures) - len(missing) + start + len(batch), len(pictures))
    return indices(client, project_id)

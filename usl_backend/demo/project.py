"""The demo's project: made, filled with pictures as dragging files onto it does, and found again; no selection."""

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
# Django, on which Label Studio runs, takes at most 100 files in one request.
FILES_PER_REQUEST = 100


def label_config(classes: Sequence[str], modality: Literal["image", "text"] = "image") -> str:
    """Label config of a classification.

    Parameters
    ----------
    classes
        Names of the classes, in the order of their buttons.
    modality
        What is classified: the name of its tag and of its field of a task's data.

    Returns
    -------
    str
        XML.
    """
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in classes)
    return (
        f'<View>\n  <{modality.capitalize()} name="{modality}" value="${modality}"/>\n'
        f'  <Choices name="{CONTROL["from_name"]}" toName="{modality}" choice="single" showInLine="true">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )


def find_or_create(client: StudioClient, project_id: int | None, *, title: str, config: str) -> int:
    """Id of the demo's project; made when there is none (any more).

    Parameters
    ----------
    client
        Administrator of the demo's Label Studio.
    project_id
        As remembered from an earlier start.
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
            pass  # Somebody deleted it in the UI.
    body = {"title": title, "label_config": config}
    return int(client.http.json("POST", "/api/projects/", body=body)["id"])


def indices(client: StudioClient, project_id: int) -> dict[int, int]:
    """Number of the picture behind each task.

    Parameters
    ----------
    client
        Anybody who sees the project.
    project_id
        The demo's project.

    Returns
    -------
    dict of int to int
        Task id -> number in the data set; tasks that the demo did not upload are left out.
    """
    found = {}
    for task in client.tasks(project_id, data_key="image", only_unlabeled=False):
        # Label Studio puts a random prefix before an uploaded file's name.
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
        Administrator.
    project_id
        The demo's project.
    pictures
        PNG files, each named by its number, as `dataset.write_images` makes them.
    progress
        Called with the pictures there and all pictures.

    Returns
    -------
    dict of int to int
        As `indices`.

    Raises
    ------
    StudioError
        Label Studio took fewer files than it was given.
    """
    known = indices(client, project_id)
    present = set(known.values())
    missing = [path for path in pictures if int(path.stem) not in present]
    if not missing:
        return known
    for start in range(0, len(missing), FILES_PER_REQUEST):
        batch = missing[start : start + FILES_PER_REQUEST]
        # A field each: of several files in one field Label Studio keeps the last.
        files = {path.name: (path.name, path.read_bytes(), "image/png") for path in batch}
        made = client.http.json("POST", f"/api/projects/{project_id}/import", files=files)["task_count"]
        if made != len(batch):
            raise StudioError(
                f"Label Studio made {made} tasks of {len(batch)} uploaded pictures; start again"
            )
        if progress:
            progress("uploading", len(pictures) - len(missing) + start + len(batch), len(pictures))
    return indices(client, project_id)

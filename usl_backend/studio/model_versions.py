"""Model versions: how ours are named, counted and deleted; what is written under them is `queue.py`'s."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from usl_backend.studio.client import StudioClient

RUN_ID = re.compile(r"(?:[0-9]+|[a-z][a-z0-9_]*)-[0-9]+", re.ASCII)
# The word "pool" keeps ours apart from a model of the user's that is called usl-something-2.
_OURS = re.compile(r"usl-(?:([0-9]+-[0-9]+)|pool-([a-z][a-z0-9_]*-[0-9]+))(?:-[0-9a-f]{6})?", re.ASCII)


def model_version(run_id: str, installation: str = "") -> str:
    """Name the model version of a run, such as `usl-12-7-3f9a1c`, or `usl-pool-photos-3-3f9a1c` outside Label Studio.

    Parameters
    ----------
    run_id
        `<project>-<number>` or `<pool>-<number>`.
    installation
        Six hexadecimal digits that tell data directories apart: each counts its runs for itself, and two backends
        on one project must not take each other's predictions for their own. Empty names `usl-12-7`, as once.

    Returns
    -------
    str
        Never the title of a backend that somebody named.

    Raises
    ------
    InputError
        `run_id` is not of that form, by which versions of ours are recognized.
    """
    if not RUN_ID.fullmatch(run_id):
        raise InputError(
            f"run id {run_id!r} is not of the form <project>-<number>, such as 12-7, or <pool>-<number>"
        )
    named = f"usl-{run_id}" if run_id[0].isdecimal() else f"usl-pool-{run_id}"
    return f"{named}-{installation}" if installation else named


def is_ours(version: str | None) -> bool:
    """Whether a model version was written by a run."""
    return version is not None and _OURS.fullmatch(version) is not None


def run_of(version: str) -> str | None:
    """The run that wrote a model version, in whatever installation; None where it is not ours."""
    found = _OURS.fullmatch(version)
    return None if found is None else found[1] or found[2]


def is_of_run(version: str, run_id: str) -> bool:
    """Whether a model version was written by the run of that id, in whatever installation."""
    return run_of(version) == run_id


def versions(client: StudioClient, project_id: int) -> dict[str, int]:
    """Count a project's predictions per model version, the latest version first.

    Parameters
    ----------
    client, project_id
        Where.

    Returns
    -------
    dict
        Version -> predictions. One that is in force without having any (a backend's title) has 0.
    """
    answer = client.http.json("GET", f"/api/projects/{project_id}/model-versions/")
    return {str(version): int(count) for version, count in answer.items()}


def delete_version(client: StudioClient, project_id: int, version: str) -> None:
    """Delete all predictions of a model version.

    Nulls the project's model version if that is it. Label Studio (1.23) nulls it as well when it names a
    backend, whatever version is deleted; that is put right here.

    Parameters
    ----------
    client, project_id, version
        What and where; harmless when there are none.
    """
    in_force = client.project(project_id).model_version
    path = f"/api/projects/{project_id}/model-versions/"
    client.http.json("DELETE", path, body={"model_version": version})
    if in_force and in_force != version and client.project(project_id).model_version != in_force:
        client.update_project(project_id, model_version=in_force)

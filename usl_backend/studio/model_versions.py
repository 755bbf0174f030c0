"""Name, recognize, count and delete model versions; `queue.py` writes predictions under them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usl_backend.errors import InputError
from usl_backend.instances import RUN_ID

if TYPE_CHECKING:
    from usl_backend.studio.client import StudioClient

# "pool" distinguishes our versions from a user's model named, say, usl-something-2.
_OURS = re.compile(
    r"usl-(?:suggest-)?(?:([0-9]+-[0-9]+)|pool-([a-z][a-z0-9_]*-[0-9]+))(?:-([0-9a-f]{6}))?(?:-([0-9]{8}T[0-9]{6}))?",
    re.ASCII,
)
_TIME = "%Y%m%dT%H%M%S"
_SUGGESTS = "usl-suggest-"
_SLOWEST = 20
"""Predictions that Label Studio deletes in a second at least, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Parts of a model version that a run wrote.

    Attributes
    ----------
    run_id
        Id of the run within its installation.
    installation
        As in `model_version`; "" in the older form.
    """

    run_id: str
    installation: str


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """Predictions of one model version in Label Studio: their number, and when the latest was written (unix s)."""

    count: int
    latest: float


def model_version(
    run_id: str, installation: str = "", *, at: float | None = None, suggests: bool = False
) -> str:
    """Return a model version of a run, such as `usl-12-7-3f9a1c-20261127T155046` or `usl-pool-photos-3-3f9a1c`.

    `connect` refuses backend titles that start with `usl-`, because titles are model versions too.

    Parameters
    ----------
    run_id
        `<project>-<number>` or `<pool>-<number>`.
    installation
        Six hexadecimal digits that identify the data directory: each numbers its own runs, and two backends on one
        project must not mistake each other's predictions for their own. Empty leaves it out, as former versions did.
    at
        Time in unix s at which writing begins. Each attempt has a version of its own: if an older one is deleted late,
        that does not touch the newer. None leaves it out, as former versions did.
    suggests
        The version holds suggestions behind the queue: `usl-suggest-12-7-3f9a1c-20261127T155046`.

    Raises
    ------
    InputError
        `run_id` does not have this form, by which versions are recognized.
    """
    if not RUN_ID.fullmatch(run_id):
        raise InputError(
            f"run id {run_id!r} is not of the form <project>-<number>, such as 12-7, or <pool>-<number>"
        )
    prefix = _SUGGESTS if suggests else "usl-"
    parts = [f"{prefix}{run_id}" if run_id[0].isdecimal() else f"{prefix}pool-{run_id}"]
    if installation:
        parts.append(installation)
    if at is not None:
        parts.append(datetime.fromtimestamp(at, UTC).strftime(_TIME))
    return "-".join(parts)


def origin(version: str | None) -> Origin | None:
    """Return run and installation that wrote a model version; None if no run did."""
    found = _OURS.fullmatch(version or "")
    return None if found is None else Origin(found[1] or found[2], found[3] or "")


def is_ours(version: str | None) -> bool:
    """Return True if a run wrote this model version."""
    return version is not None and _OURS.fullmatch(version) is not None


def holds_suggestions(version: str | None) -> bool:
    """Return True if a run wrote suggestions under this model version."""
    return is_ours(version) and str(version).startswith(_SUGGESTS)


def begun_at(version: str) -> float | None:
    """Return the time in unix s at which writing a version of ours began; None if its name does not say."""
    found = _OURS.fullmatch(version)
    if found is None or not found[4]:
        return None
    return datetime.strptime(found[4], _TIME).replace(tzinfo=UTC).timestamp()


def is_of_run(version: str, run_id: str) -> bool:
    """Return True if the run with that id, in any installation, wrote this model version."""
    found = origin(version)
    return found is not None and found.run_id == run_id


def versions(client: StudioClient, project_id: int) -> dict[str, int]:
    """Count a project's predictions per model version, the latest version first.

    The project's current version is included with 0 if it has no predictions (a backend's title).
    """
    answer = client.http.json("GET", f"/api/projects/{project_id}/model-versions/")
    return {str(version): int(count) for version, count in answer.items()}


def stored_versions(client: StudioClient, project_id: int) -> dict[str, StoredVersion]:
    """Count a project's predictions per model version, and tell when the latest was written."""
    path = f"/api/projects/{project_id}/model-versions/"
    answer = client.http.json("GET", path, params={"extended": "true"})
    return {
        str(row["model_version"]): StoredVersion(
            int(row["count"]), datetime.fromisoformat(row["latest"]).timestamp()
        )
        for row in answer["static"]
    }


def delete_version(client: StudioClient, project_id: int, version: str, *, count: int = 0) -> None:
    """Delete all predictions of a model version; harmless if there are none.

    Nulls the project's model version if it is the deleted one. Label Studio (1.23) also nulls it if it names a
    backend, whichever version is deleted; this function restores it then.

    Parameters
    ----------
    count
        Number of its predictions, if known: Label Studio deletes one after the other, and must not be asked again
        while it does.
    """
    current = client.project(project_id).model_version
    path = f"/api/projects/{project_id}/model-versions/"
    patience = max(client.http.timeout, count / _SLOWEST)
    client.http.json("DELETE", path, body={"model_version": version}, timeout=patience)
    if current and current != version and not client.project(project_id).model_version:
        client.update_project(project_id, model_version=current)

"""Puts a project back as it was before our first run; what a user changed since stays and is named."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usl_backend.studio import tabs
from usl_backend.studio.model_versions import delete_version, is_of_run, is_ours, versions
from usl_backend.studio.queue import SAMPLING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.instances import QueueState
    from usl_backend.studio.client import Project, StudioClient


@dataclass(frozen=True, slots=True)
class ResetReport:
    """What `reset` put back, and what it left because the user changed it; one phrase each."""

    restored: tuple[str, ...]
    left: tuple[str, ...]


@dataclass
class _Account:
    """The report while it is written."""

    restored: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def reset(client: StudioClient, project: Project, state: QueueState | None) -> ResetReport:
    """Put a project back: sampling, model version, tab and predictions, as far as they are still ours.

    Parameters
    ----------
    client, project
        Where; the project's settings are read again.
    state
        What the last run stored; None when it is lost: then our predictions and tabs go, and what the settings
        were before is not known.

    Returns
    -------
    ResetReport
        What was restored, and what was left because the user changed it.
    """
    now = client.project(project.id)
    counts = versions(client, project.id)
    account = _Account()
    changes = _model_version(client, now, counts, state, account) | _sampling(now, state, account)
    if changes:
        client.update_project(project.id, **changes)
    for version in filter(is_ours, counts):
        if counts[version]:
            delete_version(client, project.id, version)
            account.restored.append(f"predictions: {counts[version]} of {version} deleted")
    _tabs(client, project.id, state, account)
    return ResetReport(tuple(account.restored), tuple(account.left))


def _model_version(
    client: StudioClient,
    now: Project,
    counts: Mapping[str, int],
    state: QueueState | None,
    account: _Account,
) -> dict[str, str]:
    """The model version to set, if any."""
    if not is_ours(now.model_version):
        if state is not None and now.model_version != state.original_model_version:
            account.left.append(f"model version: somebody set it to {now.model_version!r} since")
        return {}
    wanted = state.original_model_version if state is not None else ""
    if wanted and not counts.get(wanted) and wanted not in _backend_titles(client, now.id):
        account.left.append(f"model version: {wanted!r}, set before, does not exist any more; now none")
        wanted = ""
    account.restored.append(f"model version: {wanted or 'none'}")
    # None was there before: the API accepts no null, but deleting the version in force leaves one.
    return {} if wanted is None else {"model_version": wanted}


def _sampling(now: Project, state: QueueState | None, account: _Account) -> dict[str, str]:
    """The sampling to set, if any."""
    if state is None:
        if now.sampling == SAMPLING:
            account.left.append(f"sampling: {SAMPLING}; what it was before is not known here")
        return {}
    if now.sampling == state.original_sampling:
        return {}
    if now.sampling != state.sampling:
        account.left.append(f"sampling: somebody set it to {now.sampling!r} since")
        return {}
    account.restored.append(f"sampling: {state.original_sampling}")
    return {"sampling": state.original_sampling}


def _tabs(client: StudioClient, project_id: int, state: QueueState | None, account: _Account) -> None:
    """Delete our tabs that nobody changed."""
    remaining: list[dict[str, Any]] = []
    for view in tabs.views(client, project_id):
        name = str((view.get("data") or {}).get("title"))
        run_id = name.removeprefix("USL picks ")
        version = tabs.version_of(view)
        if is_of_run(version, run_id) and tabs.is_unchanged(view, run_id=run_id, model_version=version):
            tabs.delete(client, int(view["id"]))
            account.restored.append(f"tab: {name!r} deleted")
            continue
        if tabs.is_of_a_run(view) or (state is not None and view["id"] == state.view_id):
            account.left.append(f"tab: {name!r} was changed since")
        remaining.append(view)
    if state is None or state.default_view_id is None:
        return
    # The Default tab that we had to make goes as well, when it would be the only one: Label Studio shows it anyway.
    only = len(remaining) == 1 and remaining[0]["id"] == state.default_view_id
    if only and tabs.is_plain_default(remaining[0]):
        tabs.delete(client, state.default_view_id)


def _backend_titles(client: StudioClient, project_id: int) -> set[str]:
    """Titles of the project's ML backends, which are model versions too."""
    rows = client.http.json("GET", "/api/ml/", params={"project": project_id})
    return {str(row.get("title")) for row in rows}

"""Restore a project to its state before the first run, except for what users have changed since."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usl_backend.studio import leftovers, tabs
from usl_backend.studio.model_versions import (
    delete_version,
    is_of_run,
    is_ours,
    origin,
    stored_versions,
    versions,
)
from usl_backend.studio.switch import SAMPLING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.instances import QueueState
    from usl_backend.progress import Progress
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import Project


@dataclass(frozen=True, slots=True)
class ResetReport:
    """Phrases for what `reset` restored, and for what it left because the user changed it."""

    restored: tuple[str, ...]
    left: tuple[str, ...]


@dataclass
class _PartialReport:
    """ResetReport under construction."""

    restored: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def reset(
    client: StudioClient, project: Project, state: QueueState | None, *, progress: Progress | None = None
) -> ResetReport:
    """Restore a project's sampling, model version, tabs and predictions, as far as a run set them.

    Parameters
    ----------
    project
        Its settings are read again.
    state
        Stored by the last run. If None (lost), predictions and tabs of runs are deleted, but the original settings
        are unknown.
    progress
        Receives the number of predictions deleted, version by version: Label Studio takes minutes for many.

    Notes
    -----
    Predictions that another installation is writing at this moment are left; its next run removes them once they are
    abandoned.
    """
    now = client.project(project.id)
    counts = versions(client, project.id)
    report = _PartialReport()
    changes = _model_version(client, now, counts, state, report) | _sampling(now, state, report)
    if changes:
        client.update_project(project.id, **changes)
    over = [version for version in _over(client, now, state, report) if counts.get(version)]
    done, total = 0, sum(counts[version] for version in over)
    for version in over:
        if progress is not None:
            progress("removing predictions", done, total)
        delete_version(client, project.id, version, count=counts[version])
        report.restored.append(f"predictions: {counts[version]} of {version} deleted")
        done += counts[version]
    _tabs(client, project.id, state, report)
    return ResetReport(tuple(report.restored), tuple(report.left))


def _over(client: StudioClient, now: Project, state: QueueState | None, report: _PartialReport) -> list[str]:
    """Return the versions that no other installation is writing."""
    listed = {tabs.version_of(view) for view in tabs.views(client, now.id) if tabs.is_of_a_run(view)}
    over = {*listed, now.model_version, *(state.replaced if state is not None else ())}
    own = origin(state.model_version) if state is not None else None
    clock = client.clock()
    found = []
    for version, stored in stored_versions(client, now.id).items():
        wrote = origin(version)
        if wrote is None:
            continue
        ours = not wrote.installation or (own is not None and own.installation == wrote.installation)
        if ours or version in over or leftovers.is_abandoned(stored, clock):
            found.append(version)
        else:
            report.left.append(
                f"predictions: {stored.count} of {version}, which another installation is writing or has just replaced"
            )
    return found


def _model_version(
    client: StudioClient,
    now: Project,
    counts: Mapping[str, int],
    state: QueueState | None,
    report: _PartialReport,
) -> dict[str, str]:
    """Return the model version to set, if any."""
    if not is_ours(now.model_version):
        if state is not None and now.model_version != state.original_model_version:
            report.left.append(f"model version: changed to {now.model_version!r} since")
        return {}
    wanted = state.original_model_version if state is not None else ""
    if wanted and not counts.get(wanted) and wanted not in _backend_titles(client, now.id):
        report.left.append(f"model version: {wanted!r}, set before, no longer exists; now none")
        wanted = ""
    report.restored.append(f"model version: {wanted or 'none'}")
    # A wanted None needs no change: the API accepts no null, but deleting the current version leaves one.
    return {} if wanted is None else {"model_version": wanted}


def _sampling(now: Project, state: QueueState | None, report: _PartialReport) -> dict[str, str]:
    """Return the sampling to set, if any."""
    if state is None:
        if now.sampling == SAMPLING:
            report.left.append(f"sampling: {SAMPLING}; the original value is unknown")
        return {}
    if now.sampling == state.original_sampling:
        return {}
    if now.sampling != state.sampling:
        report.left.append(f"sampling: changed to {now.sampling!r} since")
        return {}
    report.restored.append(f"sampling: {state.original_sampling}")
    return {"sampling": state.original_sampling}


def _tabs(client: StudioClient, project_id: int, state: QueueState | None, report: _PartialReport) -> None:
    """Delete tabs of runs that nobody has changed."""
    remaining: list[dict[str, Any]] = []
    for view in tabs.views(client, project_id):
        name = str((view.get("data") or {}).get("title"))
        run_id = name.removeprefix("USL picks ")
        version = tabs.version_of(view)
        if is_of_run(version, run_id) and tabs.is_unchanged(view, run_id=run_id, model_version=version):
            tabs.delete(client, int(view["id"]))
            report.restored.append(f"tab: {name!r} deleted")
            continue
        if tabs.is_of_a_run(view) or (state is not None and view["id"] == state.view_id):
            report.left.append(f"tab: {name!r} was changed since")
        remaining.append(view)
    if state is None or state.default_view_id is None:
        return
    # Delete the Default tab that a run created if it would be the only one: Label Studio shows it anyway.
    only = len(remaining) == 1 and remaining[0]["id"] == state.default_view_id
    if only and tabs.is_plain_default(remaining[0]):
        tabs.delete(client, state.default_view_id)


def _backend_titles(client: StudioClient, project_id: int) -> set[str]:
    """Return the titles of the project's ML backends, which are model versions too."""
    rows = client.http.json("GET", "/api/ml/", params={"project": project_id})
    return {str(row.get("title")) for row in rows}

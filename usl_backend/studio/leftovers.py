"""Delete the predictions and tabs that nobody needs any more, and never those that a run is still publishing.

Label Studio has no compare-and-swap, so several installations keep these rules:

1. A run writes each attempt under a version of its own and switches to no other.
2. It makes the version's tab after its last switch, so a version with a tab is not switched to again.
3. It switches only within `SWITCH_SECONDS` of the first write; a version twice as old is abandoned.

Hence a version that is not in force, and has a tab or is old, can be deleted: whatever happens between reading and
deleting, it will not come into force.

One that can be deleted stays nevertheless, without its tab, until the next switch or reset: the version that was just
replaced. Label Studio refuses an annotation that was begun from a prediction that is gone, so whoever had a task open
at the switch could not submit. The installation that replaced it remembers it, others delete it once it is old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usl_backend.studio import tabs
from usl_backend.studio.model_versions import (
    begun_at,
    delete_version,
    holds_suggestions,
    is_ours,
    origin,
    stored_versions,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.model_versions import Origin, StoredVersion

SWITCH_SECONDS: Final = 3 * 3600.0
ABANDONED_SECONDS: Final = 2 * SWITCH_SECONDS


def remove_leftovers(
    client: StudioClient,
    project_id: int,
    *,
    keep: str,
    own: Origin,
    spare: str = "",
    former: Collection[str] = (),
) -> None:
    """Delete the versions and tabs of runs that are over, unless they are in force or were until just now.

    Parameters
    ----------
    keep
        The version that the calling run has published.
    own
        The calling run. Only one process computes it, so its other versions are over.
    spare
        The version that was replaced; only its tab goes.
    former
        Versions that this installation knows to be over.
    """
    # Tabs before versions: a tab seen here whose version is missing there has lost it for good.
    views = [view for view in tabs.views(client, project_id) if tabs.is_of_a_run(view)]
    listed = {tabs.version_of(view) for view in views}
    stored = stored_versions(client, project_id)
    clock = client.clock()
    staying = {keep}
    for version, kept in stored.items():
        if version in (keep, spare) or not is_ours(version):
            continue
        over = origin(version) == own or version in former or version in listed or is_abandoned(kept, clock)
        # Read right before deleting: somebody may have switched to it meanwhile.
        if over and client.project(project_id).model_version != version:
            delete_version(client, project_id, version, count=kept.count)
        else:
            staying.add(version)
    for view in views:
        if tabs.version_of(view) not in staying:
            tabs.delete(client, int(view["id"]))


def remove_attempts(
    client: StudioClient, project_id: int, *, own: Origin, keep: Collection[str | None]
) -> None:
    """Delete what earlier, interrupted attempts of a run have written, except for some versions."""
    for version, stored in stored_versions(client, project_id).items():
        if origin(version) == own and version not in keep:
            delete_version(client, project_id, version, count=stored.count)


def interrupted(
    client: StudioClient, project_id: int, *, own: Origin, over: Collection[str | None], clock: float
) -> str | None:
    """Return the version of an interrupted attempt to write suggestions that can be continued, the latest; or None.

    Only one process works on a run, so the attempt is over; but it must be switched to in time. `over` are versions
    that are or were in force.
    """
    found = [
        version
        for version in stored_versions(client, project_id)
        if origin(version) == own
        and holds_suggestions(version)
        and version not in over
        and clock - (begun_at(version) or 0.0) < SWITCH_SECONDS / 2
    ]
    return max(found, key=lambda version: begun_at(version) or 0.0, default=None)


def withdraw(client: StudioClient, project_id: int, version: str) -> None:
    """Delete a version and its tab after another installation's switch has replaced it."""
    for view in tabs.views(client, project_id):
        if tabs.is_of_a_run(view) and tabs.version_of(view) == version:
            tabs.delete(client, int(view["id"]))
    if client.project(project_id).model_version != version:
        delete_version(client, project_id, version)


def is_abandoned(stored: StoredVersion, clock: float) -> bool:
    """Return True if no run can switch to a version any more, by Label Studio's clock."""
    return clock - stored.latest > ABANDONED_SECONDS

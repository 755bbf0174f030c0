"""Switch a project to a version that was written, and notice if somebody else switches it at the same time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from usl_backend.errors import (
    InputError,
    StudioAuthError,
    StudioError,
    StudioTroubleError,
    StudioUnreachableError,
    SupersededError,
)
from usl_backend.studio import leftovers
from usl_backend.studio.bulk import MiscountError
from usl_backend.studio.model_versions import is_ours, origin, stored_versions, versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from usl_backend.instances import QueueState
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.model_versions import Origin
    from usl_backend.studio.records import Project

SAMPLING: Final = "Uncertainty sampling"
_SWITCHES: Final = 3
"""Most times that the project is switched if its model version disappears right after."""


@dataclass(frozen=True, slots=True)
class Written:
    """A version whose predictions are in Label Studio.

    Attributes
    ----------
    version, own
        The model version, and the run that wrote it.
    rows
        Number of predictions.
    begun
        When writing began, by Label Studio's clock (unix s).
    """

    version: str
    own: Origin
    rows: int
    begun: float


def refuse_another(now: Project, key: str) -> None:
    """Raise InputError if a project has another one's id."""
    if now.key != key:
        raise InputError(
            f"project {now.id} was deleted and another project now has its id; start a new run for it"
        )


def switch_to(
    client: StudioClient,
    project: Project,
    written: Written,
    *,
    planned: QueueState,
    save: Callable[[QueueState], None] | None,
) -> QueueState:
    """Switch the project to a version; return the state that was saved right before.

    Raises
    ------
    SupersededError
        Another version was switched to right after; this one is withdrawn.
    StudioError
        Label Studio refused or failed, or does not hold all predictions.
    """
    planned = dataclasses.replace(planned, model_version=written.version)
    for attempt in range(_SWITCHES):
        before = client.project(project.id)
        refuse_another(before, project.key)
        if attempt == 0:
            planned = _replacing(_with_original(planned, before), before)
        _refuse_late(client, written)
        if save:
            save(planned)
        try:
            client.update_project(project.id, sampling=SAMPLING, model_version=written.version)
        except (StudioTroubleError, StudioUnreachableError, StudioAuthError):
            raise
        except StudioError:
            # Label Studio refuses versions without predictions.
            if (held := versions(client, project.id).get(written.version, 0)) != written.rows:
                raise MiscountError(held, written.rows, written.version) from None
            raise
        if _is_in_force(client, project.id, written):
            return planned
    raise StudioTroubleError(
        f"the model version of project {project.id} disappears as soon as it is set; resume the run",
        status=200,
    )


def check_in_force(client: StudioClient, project_id: int, written: Written) -> None:
    """Check after everything else is done that a version is in force and whole.

    Raises
    ------
    SupersededError
        Another version is in force; this one is withdrawn.
    StudioTroubleError
        There is none, or predictions are missing or there twice.
    """
    # Counted before: whoever takes over may delete these predictions at once.
    held = versions(client, project_id).get(written.version, 0)
    if not _is_in_force(client, project_id, written):
        raise StudioTroubleError(
            f"the model version of project {project_id} was removed after the switch; resume the run",
            status=200,
        )
    if held != written.rows:  # a lost request took effect late
        raise MiscountError(held, written.rows, written.version)


def whose(client: StudioClient, project_id: int, version: str) -> str:
    """Say who put a model version in force, and when its last prediction was written."""
    found = origin(version)
    if found is None:
        return f'somebody set the model version of project {project_id} to "{version}"'
    stored = stored_versions(client, project_id).get(version)
    when = "" if stored is None else f" at {datetime.fromtimestamp(stored.latest, UTC):%Y-%m-%d %H:%M} UTC"
    who = f"installation {found.installation}" if found.installation else "another installation"
    return f"{who} published run {found.run_id}{when}"


def _with_original(planned: QueueState, before: Project) -> QueueState:
    """Take over what the user has changed since the state was planned."""
    if is_ours(before.model_version):
        return planned
    sampling = planned.original_sampling if before.sampling == SAMPLING else before.sampling
    return dataclasses.replace(
        planned, original_model_version=before.model_version, original_sampling=sampling
    )


def _replacing(planned: QueueState, before: Project) -> QueueState:
    """Remember the version that is in force until the switch."""
    now = before.model_version
    if now is None or not is_ours(now):
        return planned
    return dataclasses.replace(planned, replaced=tuple(dict.fromkeys((now, *planned.replaced))))


def _refuse_late(client: StudioClient, written: Written) -> None:
    """Refuse to switch to a version that others may soon take for abandoned."""
    if client.clock() - written.begun > leftovers.SWITCH_SECONDS:
        hours = leftovers.SWITCH_SECONDS / 3600
        raise StudioTroubleError(
            f"writing {written.version} took longer than {hours:.0f} hours; resume the run, which writes it again",
            status=200,
        )


def _is_in_force(client: StudioClient, project_id: int, written: Written) -> bool:
    """Return True if the version is the project's, False if the project has none; raise if it has another."""
    now = client.project(project_id).model_version
    if now == written.version:
        return True
    if not now:
        return False
    told, run = whose(client, project_id, now), written.own.run_id
    leftovers.withdraw(client, project_id, written.version)
    raise SupersededError(
        f"{told} while run {run} was published, and that is in force now;"
        f" `usl-backend resume {run}` puts the queue of this run in force instead"
    )

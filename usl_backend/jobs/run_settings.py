"""Settings of a new run over a project: what its owner, this host and the caller say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usl_backend.errors import SettingsError
from usl_backend.settings import RunSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.runs import RunStore


def settings_of(
    store: RunStore,
    project: int,
    project_key: str,
    explicit: Mapping[str, Any] | None = None,
    *,
    free_paths: bool = False,
) -> RunSettings:
    """Resolve the settings of a new run from the environment, the project's extra params and wishes, and the caller's.

    Parameters
    ----------
    store
        Knows the project's last setup and its wishes.
    project, project_key
        Label Studio's id, and the project's key; "" for the key of the project known by that id.
    explicit
        Settings of the caller, which win.
    free_paths
        As for `RunSettings.resolve`.

    Raises
    ------
    SettingsError
        The extra params were refused, or a setting is invalid.
    """
    setup = store.setup(project, project_key)
    if setup is not None and setup.refused is not None:
        raise SettingsError(
            f"the extra params of project {project} are invalid: {setup.refused}; correct them in Label Studio, "
            "Settings > Model"
        )
    settings = RunSettings.resolve(
        extra_params=setup.extra_params if setup else None, explicit=explicit, free_paths=free_paths
    )
    wishes = store.wishes(project_key or store.key_of(project))
    return settings.steered(pin=wishes.pinned, exclude=wishes.excluded)

"""Run all checks in the order in which to fix their findings; `connect` also connects a project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usl_backend.doctor.check import Check, remedy_of
from usl_backend.doctor.host import (
    backend_address,
    check_backend_running,
    check_directory,
    check_proxies,
    check_settings,
)
from usl_backend.doctor.project import check_project
from usl_backend.doctor.studio import check_studio
from usl_backend.errors import USLError
from usl_backend.settings import HostSettings
from usl_backend.studio import backend as studio_backend
from usl_backend.studio.client import StudioClient


def diagnose(
    host: HostSettings,
    project_id: int | None = None,
    *,
    backend_url: str | None = None,
    studio_url: str | None = None,
) -> list[Check]:
    """Check this host, Label Studio and, if one is given, a project.

    Parameters
    ----------
    host
        Addresses, token and directories.
    project_id
        Label Studio's project; None checks only what all projects need.
    backend_url
       Address at which Label Studio reaches this backend; None derives it from the settings.
    studio_url
       Address of Label Studio given by the user; refused unless it is the configured one.

    Returns
    -------
    list of Check
        Checks in the order in which to fix their findings.
    """
    found = [*check_directory(host.model_dir), *check_settings(host), *check_proxies()]
    try:
        client = StudioClient.from_settings(host, url=studio_url)
    except USLError as error:
        return [
            *found,
            Check(
                "Label Studio settings",
                "failed",
                str(error),
                remedy_of(error, studio_url=host.label_studio_url),
            ),
        ]
    url = backend_url or backend_address(host)
    with client:
        lines = [*check_studio(client), *check_backend_running(host)]
        found += lines
        if any(line.status == "failed" and line.name in {"Label Studio", "token"} for line in lines):
            return found
        if project_id is None:
            return found
        try:
            project = client.project(project_id)
        except USLError as error:
            return [
                *found,
                Check(
                    "project",
                    "failed",
                    str(error),
                    f"look up the project's number at {client.browser_url}/projects",
                ),
            ]
        return found + check_project(client, project, host, url)


def connect(
    host: HostSettings,
    project_id: int,
    *,
    backend_url: str | None = None,
    extra_params: Mapping[str, Any] | None = None,
    studio_url: str | None = None,
) -> list[Check]:
    """Connect this backend to a project as the UI does, and check the project.

    Parameters
    ----------
    host
        Addresses, token and basic auth.
    project_id
        Label Studio's project.
    backend_url
       Address at which Label Studio reaches this backend; None derives it from the settings.
    extra_params
        Settings of the project's runs, such as `{"budget": 100}`.
    studio_url
       Address of Label Studio given by the user; refused unless it is the configured one.

    Returns
    -------
    list of Check
        Checks of the project; the first is the connection.

    Raises
    ------
    USLError
        The connection failed; the message has the remedy.
    """
    url = backend_url or backend_address(host)
    password = host.basic_auth_pass.get_secret_value()
    basic_auth = (host.basic_auth_user, password) if host.basic_auth_user else None
    with StudioClient.from_settings(host, url=studio_url) as client:
        project = client.project(project_id)
        made = studio_backend.connect(
            client, project_id, url, basic_auth=basic_auth, extra_params=extra_params
        )
        verb = "connected" if made.created else "updated the connection of"
        line = Check("connection", "ok", f"{verb} {url} to project {project_id} ({project.title!r})")
        return [line, *check_project(client, client.project(project_id), host, url)]

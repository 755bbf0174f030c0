"""What the routes work with, and the little they share. No route is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import current_app, request

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from usl_backend.jobs import Jobs
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings

EXTENSION = "usl"


@dataclass(frozen=True)
class Services:
    """Host settings, jobs and the store behind them, as the app was created with."""

    host: HostSettings
    jobs: Jobs

    @property
    def store(self) -> RunStore:
        """Where runs are remembered."""
        return self.jobs.store


def services() -> Services:
    """The services of the app that answers the current request."""
    found = current_app.extensions[EXTENSION]
    assert isinstance(found, Services)
    return found


def json_body() -> Mapping[str, Any]:
    """The request's JSON object.

    Raises
    ------
    InputError
        The body is not a JSON object. Its content is never quoted: it may hold tokens.
    """
    body = request.get_json(silent=True)
    if not isinstance(body, Mapping):
        raise InputError(
            f"the body of {request.method} {request.path} is not a JSON object; send one as application/json"
        )
    return body


def page_of(run: Run) -> str:
    """Address of the run's page, as the caller reaches this server."""
    return f"{services().host.public_url or request.host_url.rstrip('/')}/usl/runs/{run.id}"

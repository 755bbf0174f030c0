"""What the routes work with, and the little they share. No route is here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import current_app, request

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from usl_backend.jobs import Jobs
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings
    from usl_backend.web.watch import StudioWatch

EXTENSION = "usl"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""How an escaped surrogate looks in JSON; proper pairs too, so it only says where to look."""


@dataclass(frozen=True)
class Services:
    """Host settings, jobs and the store behind them, as the app was created with; and who watches Label Studio."""

    host: HostSettings
    jobs: Jobs
    studio: StudioWatch

    @property
    def store(self) -> RunStore:
        """Where runs are remembered."""
        return self.jobs.store


def services() -> Services:
    """The services of the app that answers the current request."""
    found = current_app.extensions[EXTENSION]
    assert isinstance(found, Services)
    return found


def json_body(*, kept: bool = True) -> Mapping[str, Any]:
    """The request's JSON object.

    Parameters
    ----------
    kept
        Something of it will be stored or shown, so it has to be proper text.

    Raises
    ------
    InputError
        The body is not a JSON object of proper text. Its content is never quoted: it may hold tokens.
    """
    body = request.get_json(silent=True)
    if kept and _SURROGATE.search(request.get_data(cache=True)):
        check_text(body)
    if not isinstance(body, Mapping):
        raise InputError(
            f"the body of {request.method} {request.path} is not a JSON object; send one as application/json"
        )
    return body


def check_text(value: object) -> None:
    """Refuse text that JSON can carry but no file, database or page can.

    Raises
    ------
    InputError
        A lone surrogate, such as half of an emoji.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError("the text has half of a character (a lone surrogate); send proper Unicode") from None


def page_of(run: Run) -> str:
    """Address of the run's page, as the caller reaches this server."""
    return f"{services().host.public_url or request.host_url.rstrip('/')}/usl/runs/{run.id}"

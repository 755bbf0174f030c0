"""Services of the app, and request parsing that routes share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flask import current_app, request

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from usl_backend.jobs import Jobs
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings
    from usl_backend.web.watch import StudioWatch

EXTENSION = "usl"
STUDIO_SECONDS: Final = 60.0
"""Longest wait for an answer of Label Studio in a request; it lists 7,000 predictions a second."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Escaped surrogate in JSON; it matches valid pairs too, so a match only calls for a closer check."""
_DEEPEST: Final = 64
"""Levels of objects and lists in each other; an annotation with its history has a dozen."""
_TOO_DEEP: Final = f"the body nests objects or lists more than {_DEEPEST} deep; send what Label Studio sends"


@dataclass(frozen=True)
class Services:
    """Host settings, run queue and reachability of Label Studio, as the app was created with them."""

    host: HostSettings
    jobs: Jobs
    studio: StudioWatch

    @property
    def store(self) -> RunStore:
        """Store of the runs."""
        return self.jobs.store


def services() -> Services:
    """Return the services of the current app."""
    found = current_app.extensions[EXTENSION]
    assert isinstance(found, Services)
    return found


def json_body(*, kept: bool = True) -> Mapping[str, Any]:
    """Return the request's JSON object.

    Parameters
    ----------
    kept
        Require valid Unicode, because parts of it will be stored or shown.

    Raises
    ------
    InputError
        The body is not a JSON object of valid text, or too deeply nested. The message never quotes the body: it may
        contain tokens.
    """
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        raise InputError(_TOO_DEEP) from None
    if kept:
        check_depth(body)
    if kept and _SURROGATE.search(request.get_data(cache=True)):
        check_text(body)
    if not isinstance(body, Mapping):
        raise InputError(
            f"the body of {request.method} {request.path} is not a JSON object; send one as application/json"
        )
    return body


def check_depth(value: object) -> None:
    """Raise InputError for JSON that is nested deeper than anything that is ever sent here.

    Raises
    ------
    InputError
        Objects and lists lie in each other more than 64 deep: to write such a value down again might fail.
    """
    level: list[object] = [value]
    for _ in range(_DEEPEST + 1):
        inner: list[object] = []
        for entry in level:
            if isinstance(entry, Mapping):
                inner.extend(entry.values())
            elif isinstance(entry, list):
                inner.extend(entry)
        if not inner:
            return
        level = inner
    raise InputError(_TOO_DEEP)


def check_text(value: object) -> None:
    """Raise InputError for text that JSON allows but files, databases and pages do not.

    Raises
    ------
    InputError
        The value has a lone surrogate, such as half of an emoji.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError("the text has half of a character (a lone surrogate); send proper Unicode") from None


def page_of(run: Run) -> str:
    """Return the URL of the run's page: at the host's `pages_address`, else where the client reaches this server."""
    return f"{services().host.pages_address or request.host_url.rstrip('/')}/usl/runs/{run.id}"


def share_of(name: str) -> float | None:
    """Return a parameter of the query that is a share; None where it is missing.

    Raises
    ------
    InputError
        It is no number; the range is checked where it is used.
    """
    value = request.args.get(name, "").strip()
    if not value:
        return None
    try:
        return float(value)
    except ValueError:
        raise InputError(f'{name} is "{value[:40]}"; give a share such as 0.9') from None

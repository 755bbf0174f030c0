"""Request guard: credentials, origins, host names and body size, and security headers of responses."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flask import Flask, Response, request

from usl_backend.web.credentials import WEBHOOK_HEADER, Credentials, is_loopback
from usl_backend.web.errors import RefusedError
from usl_backend.web.origin import FIELD, Forms, check_origin

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.settings import HostSettings
    from usl_backend.web.connections import BodyLimit

OPEN: Final = frozenset({"/livez", "/readyz"})
"""Paths open without credentials, for containers' health checks; they reveal nothing."""
MAX_BODY: Final = 16 * 2**20
"""Maximum size of a request body, in bytes; a label config may be long."""
MAX_PREDICT_BODY: Final = 256 * 2**20
"""Maximum size of a /predict body, in bytes: Retrieve Predictions sends all selected tasks, 630 bytes or more each."""
MAX_STRANGER_BODY: Final = 64 * 2**10
"""Maximum size of a body that is received from a client without credentials, in bytes."""
_WEBHOOK_VARIABLE: Final = WEBHOOK_HEADER.upper().replace("-", "_")
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # with no-referrer, forms of our own pages would have no origin
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def register(app: Flask, host: HostSettings) -> None:
    """Register the checks of every request and the headers of every response."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    credentials, forms = Credentials(host), Forms()
    own = [urlsplit(address) for address in (host.public_url, host.pages_url)]
    names = {name for name in (host.host, *(one.hostname for one in own)) if name}
    authorities = {one.netloc for one in own}
    app.jinja_env.globals[FIELD] = forms.token

    @app.before_request
    def _admit() -> None:
        if request.path == "/predict":
            request.max_content_length = MAX_PREDICT_BODY
        if request.path not in OPEN:
            if credentials.demanded:
                credentials.check(request)
            else:
                _check_host(names)
        check_origin(request, authorities)
        forms.check(request)

    @app.after_request
    def _harden(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if not request.path.startswith("/usl/static/"):
            response.headers.setdefault("Cache-Control", "private, no-cache")
        return response


def body_limit(host: HostSettings) -> BodyLimit:
    """Return what tells the size of the body that a client may send, in bytes, from the head of its request alone."""
    credentials = Credentials(host)

    def limit(path: str, headers: Mapping[str, str]) -> int:
        given, secret = headers.get("AUTHORIZATION", ""), headers.get(_WEBHOOK_VARIABLE, "")
        if not credentials.admit(path, authorization=given, webhook_secret=secret):
            return MAX_STRANGER_BODY
        return MAX_PREDICT_BODY if path == "/predict" else MAX_BODY

    return limit


def _check_host(names: set[str]) -> None:
    """Raise RefusedError for a Host header that is not a name of this server: protection from DNS rebinding."""
    name = urlsplit(f"//{request.host}").hostname or ""
    if not is_loopback(name) and name not in names:
        raise RefusedError(
            f'"{name[:100]}" is not a name of this server; set USL_PAGES_URL to the address that browsers use, '
            "USL_PUBLIC_URL to that of Label Studio, or set BASIC_AUTH_USER and BASIC_AUTH_PASS",
            HTTPStatus.FORBIDDEN,
        )

"""Who may talk to the server: credentials, origin, host name, size. What may be asked is decided by the routes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flask import Flask, Response, request

from usl_backend.errors import SettingsError

from .errors import RefusedError

if TYPE_CHECKING:
    from usl_backend.settings import HostSettings

OPEN: Final = frozenset({"/livez", "/readyz"})
"""Paths that answer without credentials: a container's health check has none, and they tell nothing."""
MAX_BODY: Final = 16 * 2**20
"""Bytes of a request body; a label config may be long."""
MAX_PREDICT_BODY: Final = 256 * 2**20
"""Bytes of a /predict body: Retrieve Predictions sends every selected task at once, 630 bytes each and more."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # with no-referrer browsers send forms of our own pages as from nowhere
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def is_loopback(name: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if name.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: HostSettings) -> None:
    """Refuse to listen where anybody could come in.

    Raises
    ------
    SettingsError
        The address is not loopback and there are no credentials, or only half of them.
    """
    user, password = host.basic_auth_user, host.basic_auth_pass.get_secret_value()
    if bool(user) != bool(password):
        missing = "BASIC_AUTH_PASS" if user else "BASIC_AUTH_USER"
        raise SettingsError(f"{missing} is not set but its counterpart is; set both, or neither")
    if not user and not is_loopback(host.host):
        raise SettingsError(
            f'host is "{host.host}", which other machines can reach, and there are no credentials; set '
            "BASIC_AUTH_USER and BASIC_AUTH_PASS, or listen on 127.0.0.1"
        )


def register(app: Flask, host: HostSettings) -> None:
    """Guard every request and every answer of the app."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    expected = _digests(host)
    names = {name for name in (host.host, urlsplit(host.public_url).hostname) if name}

    @app.before_request
    def _admit() -> None:
        if request.path == "/predict":
            request.max_content_length = MAX_PREDICT_BODY
        if request.path not in OPEN:
            if expected:
                _check_credentials(expected)
            else:
                _check_host(names)
        if request.method not in _SAFE:
            _check_origin()

    @app.after_request
    def _harden(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if not request.path.startswith("/usl/static/"):
            response.headers.setdefault("Cache-Control", "private, no-cache")
        return response


def _digests(host: HostSettings) -> tuple[bytes, ...]:
    """Digests of the credentials as callers may send them: UTF-8, or Latin-1 as Label Studio's client does."""
    if not host.basic_auth_user:
        return ()
    text = f"{host.basic_auth_user}:{host.basic_auth_pass.get_secret_value()}"
    forms = {text.encode()}
    if all(ord(character) < 256 for character in text):
        forms.add(text.encode("latin-1"))
    return tuple(hashlib.sha256(form).digest() for form in sorted(forms))


def _check_credentials(expected: tuple[bytes, ...]) -> None:
    """Basic auth; takes the same time whatever is wrong."""
    kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True) if kind.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        given = b""
    digest = hashlib.sha256(given).digest()
    matches = [hmac.compare_digest(digest, form) for form in expected]
    if not any(matches):
        raise RefusedError(
            "user or password is missing or wrong; give those of BASIC_AUTH_USER and BASIC_AUTH_PASS",
            HTTPStatus.UNAUTHORIZED,
        )


def _check_host(names: set[str]) -> None:
    """Without credentials: only under this machine's own names, so that no rebound name brings a web page in."""
    name = urlsplit(f"//{request.host}").hostname or ""
    if not is_loopback(name) and name not in names:
        raise RefusedError(
            f'"{name[:100]}" is not a name of this server; set USL_PUBLIC_URL to the address you use, or set '
            "BASIC_AUTH_USER and BASIC_AUTH_PASS",
            HTTPStatus.FORBIDDEN,
        )


def _check_origin() -> None:
    """Acting requests of a browser come from our own pages; Label Studio and scripts send neither header."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    foreign = site not in (None, "same-origin", "none") if site is not None else False
    if origin is not None and urlsplit(origin).netloc != request.host:
        foreign = True
    if foreign:
        raise RefusedError(
            "the request comes from another site's page; act from this server's own pages",
            HTTPStatus.FORBIDDEN,
        )

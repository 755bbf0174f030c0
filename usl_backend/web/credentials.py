"""Authentication of clients: basic auth, a bearer token or the webhook's secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from usl_backend.errors import SettingsError
from usl_backend.web.errors import RefusedError

if TYPE_CHECKING:
    from werkzeug.wrappers import Request

    from usl_backend.settings import HostSettings

WEBHOOK_HEADER: Final = "X-USL-Webhook-Secret"
"""Header that carries `webhook_secret`; Label Studio's webhooks can have custom headers."""
SHORTEST: Final = 16
"""Minimum length of a token or secret; nobody has to type them, so they need not be short."""


class Credentials:
    """Credentials that this host requires from clients.

    Only digests are kept, and every comparison takes the same time whatever is wrong.

    Parameters
    ----------
    host
        Gives the credentials; without a user name none are required.
    """

    def __init__(self, host: HostSettings) -> None:
        text = f"{host.basic_auth_user}:{host.basic_auth_pass.get_secret_value()}"
        forms = {text.encode()}
        if all(ord(character) < 256 for character in text):
            forms.add(text.encode("latin-1"))  # encoding of Label Studio's client
        self.demanded = bool(host.basic_auth_user)
        self._users = [_digest(form) for form in sorted(forms)]
        self._token = _digest_of(host.api_token.get_secret_value())
        self._webhook = _digest_of(host.webhook_secret.get_secret_value())

    def check(self, request: Request) -> None:
        """Raise RefusedError unless the request has valid credentials.

        Parameters
        ----------
        request
            Request with basic auth or the API token; a webhook may send its secret instead.

        Raises
        ------
        RefusedError
            Credentials are required, and the request's are missing or wrong.
        """
        given, secret = request.headers.get("Authorization", ""), request.headers.get(WEBHOOK_HEADER, "")
        if not self.admit(request.path, authorization=given, webhook_secret=secret):
            raise RefusedError(
                "user or password is missing or wrong; give BASIC_AUTH_USER and BASIC_AUTH_PASS, or USL_API_TOKEN as a "
                "bearer token",
                HTTPStatus.UNAUTHORIZED,
            )

    def admit(self, path: str, *, authorization: str, webhook_secret: str) -> bool:
        """Return True if a request with these values of its headers may be answered; "" for one that is absent."""
        if not self.demanded:
            return True
        kind, _, given = authorization.partition(" ")
        user, token = _digest(_decoded(given)), _digest(given.strip().encode("utf-8", "replace"))
        secret = _digest(webhook_secret.encode("utf-8", "replace"))
        admitted = [
            kind.lower() == "basic" and any([_same(user, known) for known in self._users]),  # noqa: C419 - compares all
            kind.lower() == "bearer" and _same(token, self._token),
            path == "/webhook" and _same(secret, self._webhook),
        ]
        return any(admitted)


def is_loopback(name: str) -> bool:
    """Return True if a host name or address can only be reached from this machine."""
    if name.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: HostSettings) -> None:
    """Refuse to listen on a public address without credentials, and refuse credentials that would not work.

    Parameters
    ----------
    host
        Gives address and credentials.

    Raises
    ------
    SettingsError
        The address is not loopback and there are no credentials; only user or only password is given; or a token or
        secret is too short, or given without basic auth.
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
    for variable, secret in (("USL_API_TOKEN", host.api_token), ("USL_WEBHOOK_SECRET", host.webhook_secret)):
        length = len(secret.get_secret_value())
        if length and not user:
            raise SettingsError(
                f"{variable} is set but BASIC_AUTH_USER and BASIC_AUTH_PASS are not, and Label Studio supports only "
                f"these; set them too, or unset {variable}"
            )
        if 0 < length < SHORTEST:
            raise SettingsError(
                f"{variable} has {length} characters; give at least {SHORTEST}, such as those of `openssl rand -hex 32`"
            )


def _decoded(given: str) -> bytes:
    """Return `user:password` of a basic-auth header; empty if it is not base64."""
    try:
        return base64.b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _digest(given: bytes) -> bytes:
    """Return a digest, of the same length for any input."""
    return hashlib.sha256(given).digest()


def _digest_of(secret: str) -> bytes:
    """Return the digest of a configured secret; empty if none is configured."""
    return _digest(secret.encode()) if secret else b""


def _same(given: bytes, known: bytes) -> bool:
    """Return True if two digests are equal; an empty one equals none."""
    return hmac.compare_digest(given, known) and bool(known)

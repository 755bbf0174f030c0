"""How callers prove who they are: basic auth, a bearer token, the webhook's secret. Pages are `origin.py`'s."""

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
"""Header that carries `webhook_secret`; Label Studio's webhooks can be given headers of one's own."""
SHORTEST: Final = 16
"""Characters of a token or secret, at least: nobody types them, so nothing speaks for a short one."""


class Credentials:
    """What this host demands of its callers.

    Only digests are kept, and every comparison takes the same time whatever is wrong.

    Parameters
    ----------
    host
        The settings; without a user name nothing is demanded.
    """

    def __init__(self, host: HostSettings) -> None:
        text = f"{host.basic_auth_user}:{host.basic_auth_pass.get_secret_value()}"
        forms = {text.encode()}
        if all(ord(character) < 256 for character in text):
            forms.add(text.encode("latin-1"))  # what Label Studio's client sends
        self.demanded = bool(host.basic_auth_user)
        self._users = [_digest(form) for form in sorted(forms)]
        self._token = _digest_of(host.api_token.get_secret_value())
        self._webhook = _digest_of(host.webhook_secret.get_secret_value())

    def check(self, request: Request) -> None:
        """Let a request pass, or not.

        Parameters
        ----------
        request
            With basic auth or the API token; a webhook may bring its secret instead.

        Raises
        ------
        RefusedError
            Credentials are demanded, and these are missing or wrong.
        """
        if not self.demanded:
            return
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        user, token = _digest(_decoded(given)), _digest(given.strip().encode("utf-8", "replace"))
        secret = _digest(request.headers.get(WEBHOOK_HEADER, "").encode("utf-8", "replace"))
        admitted = [
            kind.lower() == "basic" and any([_same(user, known) for known in self._users]),  # noqa: C419 - compares all
            kind.lower() == "bearer" and _same(token, self._token),
            request.path == "/webhook" and _same(secret, self._webhook),
        ]
        if not any(admitted):
            raise RefusedError(
                "user or password is missing or wrong; give those of BASIC_AUTH_USER and BASIC_AUTH_PASS, or "
                "USL_API_TOKEN as a bearer token",
                HTTPStatus.UNAUTHORIZED,
            )


def is_loopback(name: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if name.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: HostSettings) -> None:
    """Refuse to listen where anybody could come in, and credentials that would not do what one expects.

    Parameters
    ----------
    host
        The settings.

    Raises
    ------
    SettingsError
        The address is not loopback and there are no credentials; only half of them are given; or a token or
        secret is short, or stands without basic auth.
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
                f"{variable} is set but BASIC_AUTH_USER and BASIC_AUTH_PASS are not, and Label Studio can send nothing "
                f"else; set them too, or unset {variable}"
            )
        if 0 < length < SHORTEST:
            raise SettingsError(
                f"{variable} has {length} characters; give at least {SHORTEST}, such as those of `openssl rand -hex 32`"
            )


def _decoded(given: str) -> bytes:
    """`user:password` of a basic-auth header; nothing where it is no base64."""
    try:
        return base64.b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _digest(given: bytes) -> bytes:
    """Equally long for whatever is given."""
    return hashlib.sha256(given).digest()


def _digest_of(secret: str) -> bytes:
    """Digest of a configured secret; of one that nobody can know where none is configured."""
    return _digest(secret.encode()) if secret else b""


def _same(given: bytes, known: bytes) -> bool:
    """Whether two digests are equal; an empty one equals none."""
    return hmac.compare_digest(given, known) and bool(known)

"""Whose page makes a browser act: cross-site requests are refused, in three ways that do not need each other.

A browser sends a remembered password with every request, whoever's page causes it. So what acts must come from a
page of ours (Origin, Sec-Fetch-Site or Referer, whichever the browser tells); a form must carry the token that only
our pages know; and the API takes nothing that a form of another site can send.
"""

from __future__ import annotations

import hmac
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from usl_backend.web.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from werkzeug.wrappers import Request

FIELD: Final = "form_token"
"""Form field, and name in the templates, of the token."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM_TYPES: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
"""Content types that a page may send to another site without being asked whether it may."""


class Forms:
    """The token of this process's forms."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)

    def check(self, request: Request) -> None:
        """Let what acts pass when our own page, a script or Label Studio sends it.

        Parameters
        ----------
        request
            Any request; those that only read pass.

        Raises
        ------
        RefusedError
            A form without its token, or a form where none is expected.
        """
        if request.method in _SAFE:
            return
        if request.path.startswith("/usl/") and not request.path.startswith("/usl/api/"):
            if not hmac.compare_digest(
                request.form.get(FIELD, "").encode("utf-8", "replace"), self.token.encode()
            ):
                raise RefusedError(
                    "the form is not from a page of this server, or from before it was restarted; go back, reload "
                    "the page and press the button again",
                    HTTPStatus.FORBIDDEN,
                )
        elif request.mimetype in _FORM_TYPES:
            raise RefusedError(
                f"{request.path} takes no form ({request.mimetype}); send application/json",
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            )


def check_origin(request: Request, own: AbstractSet[str]) -> None:
    """Refuse what another site's page makes a browser do; scripts and Label Studio name no page at all.

    Parameters
    ----------
    request
        Any request; those that only read pass.
    own
        Further `host:port` of this server, beside the one it was called by.

    Raises
    ------
    RefusedError
        The request comes from a page that is not ours.
    """
    if request.method in _SAFE:
        return
    site = request.headers.get("Sec-Fetch-Site")
    source = request.headers.get("Origin") or request.headers.get("Referer")
    foreign = site not in (None, "same-origin", "none")
    if source is not None:
        authority = _authority(source)
        foreign |= not authority or authority not in {request.host, *own}
    if foreign:
        raise RefusedError(
            "the request comes from another site's page; act from this server's own pages",
            HTTPStatus.FORBIDDEN,
        )


def _authority(address: str) -> str:
    """`host:port` of an address; nothing where there is none, as of the origin `null`."""
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""

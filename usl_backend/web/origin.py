"""Protection against cross-site requests, by three independent checks.

A browser sends a saved password with every request, even one caused by another site's page. So a request that changes
something must come from a page of this server (by Origin, Sec-Fetch-Site or Referer, whichever the browser sends); a
form must carry the token that only these pages know; and the API accepts no content type that a form of another site
can send.
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
"""Name of the token in forms and templates."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM_TYPES: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
"""Content types that a page may send to another site without a CORS preflight."""


class Forms:
    """Form token of this process."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)

    def check(self, request: Request) -> None:
        """Raise RefusedError for a form that does not come from a page of this server.

        Parameters
        ----------
        request
            Any request; safe methods always pass.

        Raises
        ------
        RefusedError
            The form has no valid token, or the route takes no form.
        """
        if request.method in _SAFE:
            return
        if request.path.startswith("/usl/") and not request.path.startswith("/usl/api/"):
            if not hmac.compare_digest(
                request.form.get(FIELD, "").encode("utf-8", "replace"), self.token.encode()
            ):
                raise RefusedError(
                    "the form does not come from a page of this server, or the server was restarted since; go back, "
                    "reload the page and press the button again",
                    HTTPStatus.FORBIDDEN,
                )
        elif request.mimetype in _FORM_TYPES:
            raise RefusedError(
                f"{request.path} takes no form ({request.mimetype}); send application/json",
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            )


def check_origin(request: Request, own: AbstractSet[str]) -> None:
    """Raise RefusedError for a request caused by another site's page; scripts and Label Studio send no origin.

    Parameters
    ----------
    request
        Any request; safe methods always pass.
    own
        Further `host:port` of this server, besides that of the request.

    Raises
    ------
    RefusedError
        The request comes from another site's page.
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
            "the request comes from another site's page; use this server's own pages",
            HTTPStatus.FORBIDDEN,
        )


def _authority(address: str) -> str:
    """Return `host:port` of a URL; empty if there is none, as for the origin `null`."""
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""

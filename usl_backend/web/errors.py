"""Error responses: one handler and one JSON shape, never a stack trace.

Label Studio shows its users neither the body nor the status of an error response, only the reason phrase of the
status line, so the message is there too.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from usl_backend.errors import (
    ActiveRunError,
    ExportError,
    InputError,
    RunError,
    StorageError,
    StudioError,
    UnknownRunError,
    USLError,
)

logger = logging.getLogger(__name__)

_LONGEST_REASON: Final = 400


class RefusedError(USLError):
    """Error for a refused request, with its HTTP status."""

    def __init__(self, message: str, status: HTTPStatus) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: Exception) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, RefusedError):
        return error.status
    if isinstance(error, HTTPException):
        return error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    families: tuple[tuple[type[Exception], HTTPStatus], ...] = (
        (UnknownRunError, HTTPStatus.NOT_FOUND),
        (StorageError, HTTPStatus.SERVICE_UNAVAILABLE),
        (ActiveRunError, HTTPStatus.CONFLICT),
        (RunError, HTTPStatus.CONFLICT),
        (InputError, HTTPStatus.BAD_REQUEST),
        (ExportError, HTTPStatus.BAD_REQUEST),
        (StudioError, HTTPStatus.BAD_GATEWAY),
    )
    return next(
        (status for family, status in families if isinstance(error, family)), HTTPStatus.INTERNAL_SERVER_ERROR
    )


def refusal(kind: str, message: str, status: int, **more: Any) -> Response:
    """Return an error response: `{"error": {"type", "message"}}`, with the message also as the reason phrase."""
    response = jsonify({"error": {"type": kind, "message": message}, **more})
    response.status = f"{int(status)} {reason_phrase(message, status)}"
    return response


def reason_phrase(message: str, status: int) -> str:
    """Return a message in the form of a status line: one line of printable ASCII."""
    line = " ".join(message.encode("ascii", "replace").decode().split())
    line = re.sub(r"[^\x20-\x7e]", "?", line)[:_LONGEST_REASON].strip()
    return line or HTTPStatus(status).phrase


def register(app: Flask) -> None:
    """Register the error handler of the app."""
    app.register_error_handler(Exception, _answer)


def _answer(error: Exception) -> Response:
    """Return the response for an error."""
    status = status_of(error)
    if isinstance(error, USLError):
        kind, message = type(error).__name__, str(error)
    elif isinstance(error, HTTPException):
        kind, message = type(error).__name__, f"{error.name}: {request.method} {request.path[:200]}"
    else:
        logger.error("%s %s failed", request.method, request.path, exc_info=error)
        kind, message = "InternalError", "unexpected error; the server's log has the trace"
    more = {"run": error.run_id} if isinstance(error, ActiveRunError) else {}
    if _wants_html():
        response = Response(
            render_template("error.html", status=status, message=message), mimetype="text/html"
        )
        response.status_code = status
    else:
        response = refusal(kind, message, status, **more)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Basic realm="usl-backend", charset="UTF-8"'
    if isinstance(error, HTTPException) and status == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    return response


def _wants_html() -> bool:
    """Return True if a browser requested a page."""
    return (
        request.path.startswith("/usl")
        and not request.path.startswith("/usl/api")
        and request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
    )

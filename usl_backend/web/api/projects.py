"""The labeling of a project as JSON."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify, request, url_for

from usl_backend.errors import StudioNotFoundError
from usl_backend.runs import parse_project_key
from usl_backend.web.errors import RefusedError
from usl_backend.web.project_watch import project_watch

if TYPE_CHECKING:
    from usl_backend.errors import USLError
    from usl_backend.web.project_watch import Seen

blueprint = Blueprint("api_projects", __name__)


@blueprint.get("/projects/<int:project>")
def show(project: int) -> Response:
    """Return how the labeling of a project goes; polling is cheap: an unchanged state gives 304."""
    number, _ = parse_project_key(project)
    seen = project_watch().look(number)
    if seen.state is None:
        raise missing(seen)
    response = jsonify(to_json(seen))
    response.add_etag()
    response.make_conditional(request)
    return response


def missing(seen: Seen) -> USLError:
    """Return the error for a project that could not be read."""
    if seen.error is None:
        return RefusedError(
            "the project is being read; ask again in a few seconds", HTTPStatus.SERVICE_UNAVAILABLE
        )
    if isinstance(seen.error, StudioNotFoundError):
        return RefusedError(seen.problem, HTTPStatus.NOT_FOUND)
    return seen.error


def to_json(seen: Seen) -> dict[str, Any]:
    """Return the labeling as one JSON object: the state, how often it is read, what failed last, and the page."""
    assert seen.state is not None, "it was read"
    page = url_for("projects.show", project=seen.state.project)
    return {**seen.state.to_json(), "every": seen.every, "problem": seen.problem, "page": page}

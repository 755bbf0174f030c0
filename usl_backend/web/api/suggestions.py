"""Suggestions of a project's run as JSON: start and show."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify, request, url_for

from usl_backend.errors import InputError, UnknownRunError
from usl_backend.jobs.answering import AccuracyRequest, accuracy_of_run
from usl_backend.jobs.suggesting import published_run, start_suggesting
from usl_backend.runs import parse_project_key
from usl_backend.runs.doubts import read_doubts
from usl_backend.runs.suggest_job import read_job
from usl_backend.suggesting.request import SuggestRequest
from usl_backend.web.services import STUDIO_SECONDS, json_body, page_of, services, share_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.runs import Run
    from usl_backend.runs.suggest_job import SuggestJob

blueprint = Blueprint("api_suggestions", __name__)

_KINDS: dict[str, tuple[type, ...]] = {
    "dry_run": (bool,),
    "review": (bool,),
    "accept": (float, int),
    "annotate": (bool,),
    "control": (str,),
}


@blueprint.post("/projects/<int:project>/suggestions")
def start(project: int) -> tuple[Response, int]:
    """Suggest classes for a project's tasks: `{"review": true, "accept": 0.95, "annotate": false, "control": "c"}`."""
    run = _run(project)
    job = start_suggesting(services().store, services().host, run, _request(json_body()))
    response = jsonify(_to_json(run, job))
    response.headers["Location"] = url_for("api_suggestions.show", project=project)
    return response, HTTPStatus.ACCEPTED


@blueprint.get("/projects/<int:project>/suggestions")
def show(project: int) -> Response:
    """Return the last request for suggestions of a project, with its progress and its result."""
    run = _run(project)
    job = read_job(services().store.files(run.id))
    if job is None:
        raise UnknownRunError(f"no suggestions were asked for in project {project} by this server")
    return jsonify(_to_json(run, job))


@blueprint.get("/projects/<int:project>/accuracy")
def show_accuracy(project: int) -> Mapping[str, Any]:
    """Measure how many suggestions of a project's newest run are right: `?target=0.9&control=c`; takes seconds."""
    from usl_backend.exports.project import exported_run
    from usl_backend.studio.client import StudioClient

    host, store = services().host, services().store
    run = exported_run(store, parse_project_key(str(project))[0])
    wanted = AccuracyRequest(target=share_of("target"), control=request.args.get("control"))
    with StudioClient.from_settings(host, attempts=1, timeout=STUDIO_SECONDS) as client:
        client.project(run.project)  # whatever is wrong with it is said before a process is started
    return accuracy_of_run(host, run, wanted)


@blueprint.get("/runs/<run_id>/doubts")
def list_doubts(run_id: str) -> Mapping[str, Any]:
    """Return the labels that look wrong and the disputed tasks, as found with the last suggestions."""
    run = services().store.get(run_id)
    found = read_doubts(services().store.files(run.id))
    if found is None:
        raise UnknownRunError(
            f"the labels of run {run.id} were not checked; run `usl-backend doubts {run.id}`"
        )
    return found.to_json()


def _run(project: int) -> Run:
    """Return the run of a project that gets suggestions."""
    return published_run(services().store, parse_project_key(str(project))[0])


def _request(body: Mapping[str, Any]) -> SuggestRequest:
    """Check the fields of a request."""
    for name, value in body.items():
        if name not in _KINDS:
            raise InputError(f'"{name[:40]}" is not known here; known are {", ".join(_KINDS)}')
        kinds = _KINDS[name]
        if value is not None and (
            not isinstance(value, kinds) or isinstance(value, bool) != (kinds == (bool,))
        ):
            wanted = {bool: "true or false", str: "text"}.get(kinds[0], "a share such as 0.95")
            raise InputError(f"{name} is {str(value)[:40]!r}; give {wanted}")
    return SuggestRequest(**{name: value for name, value in body.items() if value is not None})


def _to_json(run: Run, job: SuggestJob) -> dict[str, Any]:
    """Return a request as a JSON object."""
    return {**job.to_json(), "page": page_of(run)}

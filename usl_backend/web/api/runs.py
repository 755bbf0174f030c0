"""Runs as JSON: list, start, show, cancel, resume, picks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, jsonify, request, url_for

from usl_backend.errors import InputError, USLError
from usl_backend.instances import Queue
from usl_backend.runs import Run, RunState, parse_project_key
from usl_backend.runs.published import queue_to_json
from usl_backend.runs.succession import succession
from usl_backend.web.services import STUDIO_SECONDS, json_body, page_of, services

blueprint = Blueprint("api_runs", __name__)

_MOST = 1000
_ROLES = ("pick", "control", "reserve")


@blueprint.get("/runs")
def list_runs() -> Mapping[str, Any]:
    """List runs, newest first; filter by `?project=12&state=done&limit=100`."""
    project = request.args.get("project")
    state = request.args.get("state")
    if state is not None and state not in tuple(RunState):
        raise InputError(f'state is "{state[:40]}"; choose among {", ".join(RunState)}')
    runs = services().store.list(
        project=parse_project_key(project)[0] if project is not None else None,
        state=RunState(state) if state is not None else None,
        limit=_whole("limit", 100, most=_MOST),
    )
    return {"runs": [_to_json(run) for run in runs]}


@blueprint.post("/runs")
def start_run() -> tuple[Response, int]:
    """Queue a run: `{"project": 12, "budget": 100, "dry_run": false}` and any other run setting."""
    body = dict(json_body())
    project, key = parse_project_key(body.pop("project", None))
    dry_run = body.pop("dry_run", False)
    if not isinstance(dry_run, bool):
        raise InputError(f"dry_run is {str(dry_run)[:40]!r}; give true or false")
    run = services().jobs.enqueue(project, project_key=key, explicit=body, dry_run=dry_run)
    response = jsonify(_to_json(run))
    response.headers["Location"] = url_for("api_runs.show_run", run_id=run.id)
    return response, HTTPStatus.CREATED


@blueprint.get("/runs/<run_id>")
def show_run(run_id: str) -> Response:
    """Return one run; polling is cheap, since an unchanged run gives 304."""
    run = services().store.get(run_id)
    after = succession(services().store, run)
    told = {"in_force": after.in_force, "replaced_by": after.replaced_by, "extended": after.extended}
    response = jsonify(_to_json(run) | told)
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.post("/runs/<run_id>/cancel")
def cancel_run(run_id: str) -> Mapping[str, Any]:
    """Cancel an active run."""
    return _to_json(services().jobs.cancel(run_id))


@blueprint.post("/runs/<run_id>/resume")
def resume_run(run_id: str) -> Mapping[str, Any]:
    """Queue a paused, failed or cancelled run again."""
    return _to_json(services().jobs.resume(run_id))


@blueprint.get("/runs/<run_id>/picks")
def list_picks(run_id: str) -> Mapping[str, Any]:
    """List the queue of a completed run in rank order, the reserve last; filter by `?role=pick`."""
    store = services().store
    run = store.get(run_id)
    role = request.args.get("role")
    if role is not None and role not in _ROLES:
        raise InputError(f'role is "{role[:40]}"; choose among {", ".join(_ROLES)}')
    published = store.files(run.id).read_published()
    places = tuple(place for place in published.queue.places if role in (None, place.role))
    return {"run": run.id, "model_version": published.model_version, "picks": queue_to_json(Queue(places))}


@blueprint.get("/runs/<run_id>/queue")
def show_queue(run_id: str) -> Mapping[str, Any]:
    """Compare a run's queue in Label Studio with what was published: `kind`, `detail` and the command that mends it."""
    from usl_backend.sinks.standing import Standing, standing_of
    from usl_backend.studio.client import StudioClient

    run = services().store.get(run_id)
    try:
        with StudioClient.from_settings(services().host, attempts=1, timeout=STUDIO_SECONDS) as client:
            return asdict(standing_of(run, client=client, store=services().store))
    except USLError as error:
        return asdict(Standing("unknown", run.id, str(error)))


def _to_json(run: Run) -> dict[str, Any]:
    """Return a run as a JSON object."""
    return {**run.to_json(), "page": page_of(run)}


def _whole(name: str, default: int, *, most: int) -> int:
    """Read a whole number from the query string."""
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= most):
        raise InputError(f'{name} is "{text[:40]}"; give a whole number from 1 to {most}')
    return int(text[:9])

"""A run's report as JSON, and the thumbnails of its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, jsonify, request, url_for

from usl_backend.errors import MediaError, UnknownRunError
from usl_backend.report.view import studio_links
from usl_backend.runs.succession import linked
from usl_backend.web.reports import shown
from usl_backend.web.services import services
from usl_backend.web.task_states import task_states

if TYPE_CHECKING:
    from usl_backend.report.record import MapPoints
    from usl_backend.runs import Run

blueprint = Blueprint("api_report", __name__)

DAY: Final = 86_400
_ABSENT: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 120"><rect width="120" height="120" fill="#8883"/>'
    '<text x="60" y="64" font-family="sans-serif" font-size="12" text-anchor="middle" fill="#777">not readable</text>'
    "</svg>"
)


@blueprint.get("/runs/<run_id>/map")
def show_map(run_id: str) -> Response:
    """Return the map of a run's pool, packed for a browser: positions, densities, clusters, picks."""
    from usl_backend.report.mapdata import described, packed

    run = services().store.get(run_id)
    report = shown(run).report
    address = studio_links(linked(services().store, run), services().host.browser_url)(0)
    packing = packed(_points(run), task_url=address.removesuffix("0") + "{task}" if address else None)
    return _answer({"run": run.id, **packing, **described(report)})


@blueprint.get("/runs/<run_id>/map/states")
def show_states(run_id: str) -> Response:
    """Return label, status and annotator of each point of the map, as they are in Label Studio now."""
    from usl_backend.report.mapdata import packed_states

    run = services().store.get(run_id)
    shown(run)
    points = _points(run)
    return _answer({"run": run.id, **packed_states(task_states(run), points.ids)})


@blueprint.get("/runs/<run_id>/labels")
def list_labels(run_id: str) -> Response:
    """Return the class of each labeled task of the run, as it is in Label Studio now."""
    run = services().store.get(run_id)
    shown(run)
    states = task_states(run)
    return _answer({"run": run.id, "read_at": states.read_at, "note": states.note, "labels": states.labels})


def _points(run: Run) -> MapPoints:
    """Return the points of a run's map."""
    from usl_backend.report.record import load_map

    points = load_map(services().store.files(run.id))
    if points is None:
        raise UnknownRunError(
            f"the map of run {run.id} is missing; create it with `usl-backend report {run.id} --force`"
        )
    return points


def _answer(values: Mapping[str, Any]) -> Response:
    """Return a JSON response that costs nothing if it is unchanged."""
    response = jsonify(values)
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.get("/runs/<run_id>/why")
def list_whys(run_id: str) -> Mapping[str, Any]:
    """Return why each task was picked, in pick order; rank 0 is the first."""
    run = services().store.get(run_id)
    return {"run": run.id, "picks": [asdict(why) for why in shown(run).report.whys]}


@blueprint.get("/runs/<run_id>/trust")
def show_trust(run_id: str) -> Mapping[str, Any]:
    """Return how the picks compare with random ones: coverage, stability, repeats."""
    run = services().store.get(run_id)
    return {"run": run.id, **asdict(shown(run).report.trust)}


@blueprint.get("/runs/<run_id>/instances/<int:task>")
def show_instance(run_id: str, task: int) -> Mapping[str, Any]:
    """Return what a task is called, and an excerpt of its text or the URL of its thumbnail."""
    from usl_backend.report.sources import called, excerpt_of

    run = services().store.get(run_id)
    instance = shown(run).sources.get(task)
    if instance is None:
        raise UnknownRunError(f"task {task} is not part of run {run.id}")
    name, alt = called(instance, task, pool=bool(run.pool))
    image = url_for("api_report.thumbnail", run_id=run.id, task=task) if instance.located else None
    return {
        "task": task,
        "name": name,
        "text": excerpt_of(instance),
        "image": image,
        "alt": alt,
    }


@blueprint.get("/runs/<run_id>/thumbnail/<int:task>")
def thumbnail(run_id: str, task: int) -> Response:
    """Return a thumbnail of a task of the run, made on first request; tasks of other runs are refused."""
    from usl_backend.report.sources import SIDE

    return _picture(run_id, task, SIDE)


@blueprint.get("/runs/<run_id>/picture/<int:task>")
def picture(run_id: str, task: int) -> Response:
    """Return a larger picture of a task of the run, made on first request; tasks of other runs are refused."""
    from usl_backend.report.sources import LARGE

    return _picture(run_id, task, LARGE)


def _picture(run_id: str, task: int, side: int) -> Response:
    """Return a picture of a task, at most so wide and high."""
    from usl_backend.report.sources import image_type

    run = services().store.get(run_id)
    found = shown(run)
    if found.sources.get(task) is None:
        raise UnknownRunError(f"task {task} is not part of run {run.id}")
    try:
        path = found.thumbnails.path(task, side=side)
    except MediaError:
        # Shown instead of the picture; the reason may name hosts and is not revealed to embedding pages.
        return Response(_ABSENT, status=404, mimetype="image/svg+xml", headers={"Cache-Control": "no-store"})
    response = Response(path.read_bytes(), mimetype=image_type(path))
    response.headers["Cache-Control"] = f"private, max-age={DAY}"
    return response

"""A run's report as JSON, and the thumbnails of its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request, url_for

from usl_backend.errors import MediaError, UnknownRunError
from usl_backend.report.mapdata import packed
from usl_backend.report.record import load_map
from usl_backend.report.sources import excerpt_of, image_type, name_of
from usl_backend.report.view import studio_links
from usl_backend.web.reports import shown
from usl_backend.web.services import services

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
    run = services().store.get(run_id)
    shown(run)
    points = load_map(services().store.files(run.id))
    if points is None:
        raise UnknownRunError(
            f"the map of run {run.id} is missing; create it with `usl-backend report {run.id} --force`"
        )
    address = studio_links(run, services().host.label_studio_url)(0)
    response = jsonify(
        {"run": run.id, **packed(points, task_url=address.removesuffix("0") + "{task}" if address else None)}
    )
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
    """Return an excerpt of a task's text, or the URL of its thumbnail."""
    run = services().store.get(run_id)
    instance = shown(run).sources.get(task)
    if instance is None:
        raise UnknownRunError(f"task {task} is not part of run {run.id}")
    name = name_of(instance)
    image = url_for("api_report.thumbnail", run_id=run.id, task=task) if instance.located else None
    return {
        "task": task,
        "text": excerpt_of(instance),
        "image": image,
        "alt": f"Task {task}" + (f", {name}" if name else ""),
    }


@blueprint.get("/runs/<run_id>/thumbnail/<int:task>")
def thumbnail(run_id: str, task: int) -> Response:
    """Return a thumbnail of a task of the run, made on first request; tasks of other runs are refused."""
    run = services().store.get(run_id)
    found = shown(run)
    if found.sources.get(task) is None:
        raise UnknownRunError(f"task {task} is not part of run {run.id}")
    try:
        path = found.thumbnails.path(task)
    except MediaError:
        # Shown instead of the picture; the reason may name hosts and is not revealed to embedding pages.
        return Response(_ABSENT, status=404, mimetype="image/svg+xml", headers={"Cache-Control": "no-store"})
    response = Response(path.read_bytes(), mimetype=image_type(path))
    response.headers["Cache-Control"] = f"private, max-age={DAY}"
    return response

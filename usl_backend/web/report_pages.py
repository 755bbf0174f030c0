"""Pages of a run's report: map, gallery, why, trust."""

from __future__ import annotations

import gzip
import mimetypes
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from usl_backend.report.view import (
    PER_PAGE,
    PLOTLY,
    SCRIPTS,
    View,
    static_directory,
    studio_links,
    template_directory,
)
from usl_backend.runs.succession import linked
from usl_backend.web.reports import Awaited, reports
from usl_backend.web.services import services

if TYPE_CHECKING:
    from usl_backend.runs import Run
    from usl_backend.web.reports import Shown

blueprint = Blueprint("report", __name__, template_folder=str(template_directory()))

FILES: Final = {"report.css", "wait.js", "pictures.js", *SCRIPTS}
_DRAWING: Final = (
    # Plotly compiles code to draw points and sets inline styles; every script is a file of this server.
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_KEEP: Final = "private, max-age=86400"


@blueprint.get("/report/<name>")
def file(name: str) -> Response:
    """Serve the report's style sheet and scripts, including Plotly."""
    if name not in FILES:
        abort(HTTPStatus.NOT_FOUND)
    path = static_directory() / name
    kind = mimetypes.types_map.get(path.suffix, "application/octet-stream")
    packs = "gzip" in request.headers.get("Accept-Encoding", "")
    response = Response(_packed(path, path.stat().st_mtime_ns) if packs else path.read_bytes(), mimetype=kind)
    if packs:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = "private, no-cache" if name != PLOTLY else _KEEP
    response.add_etag()
    response.make_conditional(request)
    return response


@blueprint.get("/runs/<run_id>/map")
def show_map(run_id: str) -> Response:
    """Show every instance on a 2-D map, with the picks numbered."""
    response = _page(run_id, "map", "Map")
    response.headers["Content-Security-Policy"] = _DRAWING
    return response


@blueprint.get("/runs/<run_id>/gallery")
def show_gallery(run_id: str) -> Response:
    """Show the picks and what they stand for, the least typical tasks, repeats and skipped tasks."""
    return _page(run_id, "gallery", "Gallery")


@blueprint.get("/runs/<run_id>/why")
def show_why(run_id: str) -> Response:
    """Show why each task was picked."""
    return _page(run_id, "why", "Why these tasks")


@blueprint.get("/runs/<run_id>/trust")
def show_trust(run_id: str) -> Response:
    """Compare the picks with random ones."""
    return _page(run_id, "trust", "Can I trust it?")


@blueprint.post("/runs/<run_id>/report")
def try_again(run_id: str) -> AnyResponse:
    """Retry a report that failed (the Try again button)."""
    run = services().store.get(run_id)
    reports().again(run)
    return redirect(url_for("report.show_trust", run_id=run.id), 303)


def _page(run_id: str, part: str, heading: str) -> Response:
    """Render a part of the report, or the reason why it is missing."""
    run = services().store.get(run_id)
    found = reports().get(run)
    if isinstance(found, Awaited):
        page = render_template("report_awaited.html", run=run, part=part, heading=heading, awaited=found)
        return Response(page, mimetype="text/html")
    view = view_of(run, found)
    number = request.args.get("page", "")
    stretch = view.page(int(number) if number.isascii() and number.isdecimal() and len(number) < 9 else 1)
    page = render_template(
        "report_page.html",
        run=run,
        part=part,
        heading=heading,
        scripts=SCRIPTS,
        view=view,
        page=stretch,
        near=stretch,
        **_addresses(run, part),
    )
    return Response(page, mimetype="text/html")


def view_of(run: Run, found: Shown) -> View:
    """Return a run's report as the templates show it."""
    from usl_backend.report.check import control_set, load_check
    from usl_backend.report.states import known_states
    from usl_backend.suggesting.accuracy import load_accuracy

    files, shown = services().store.files(run.id), linked(services().store, run)
    return View(
        run=shown,
        report=found.report,
        sources=found.sources,
        image=lambda task: url_for("api_report.thumbnail", run_id=run.id, task=task),
        task_url=studio_links(shown, services().host.browser_url),
        controls=len(control_set(files)),
        check=load_check(files),
        accuracy=load_accuracy(files),
        large=lambda task: url_for("api_report.picture", run_id=run.id, task=task),
        labels=known_states(files).labels,
    )


def _addresses(run: Run, part: str) -> dict[str, Any]:
    """Return the URLs that the parts of the report link to."""
    return {
        "address": lambda number: url_for(f"report.show_{part}", run_id=run.id, page=number),
        "row_address": lambda rank: url_for(
            "report.show_why", run_id=run.id, page=rank // PER_PAGE + 1, _anchor=f"pick-{rank + 1}"
        ),
        "json_address": url_for("api_report.list_whys", run_id=run.id),
        "map_address": url_for("api_report.show_map", run_id=run.id),
        "labels_address": None if run.pool else url_for("api_report.list_labels", run_id=run.id),
        "states_address": url_for("api_report.show_states", run_id=run.id),
        "instance_address": _template("api_report.show_instance", run),
        "thumbnail_address": _template("api_report.thumbnail", run),
    }


def _template(endpoint: str, run: Run) -> str:
    """Return the URL of a route for each task, with {task} for its id."""
    return url_for(endpoint, run_id=run.id, task=0).removesuffix("0") + "{task}"


@lru_cache(maxsize=len(FILES))
def _packed(path: Path, stamp: int) -> bytes:
    """Return a file gzipped; cached until it changes (`stamp`)."""
    del stamp
    return gzip.compress(path.read_bytes(), 6)

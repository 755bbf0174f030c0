"""Button and page of a run's suggestions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from usl_backend.errors import InputError
from usl_backend.jobs.suggesting import start_suggesting
from usl_backend.runs.doubts import read_doubts
from usl_backend.runs.succession import succession
from usl_backend.runs.suggest_job import read_job
from usl_backend.suggesting.request import SuggestRequest
from usl_backend.web.report_pages import view_of
from usl_backend.web.reports import Awaited, reports
from usl_backend.web.services import services

if TYPE_CHECKING:
    from collections.abc import Mapping

blueprint = Blueprint("suggest", __name__)

MOST: Final = 200
"""Labels and disputed tasks shown."""


@blueprint.post("/runs/<run_id>/suggestions")
def start(run_id: str) -> AnyResponse:
    """Suggest classes for a run's tasks (the Suggest button)."""
    run = services().store.get(run_id)
    start_suggesting(services().store, services().host, run, request_of(request.form))
    return redirect(url_for("pages.show_run", run_id=run.id, _anchor="suggestions"), 303)


def request_of(form: Mapping[str, str]) -> SuggestRequest:
    """Read a form that asks for suggestions."""
    share = form.get("accept", "").strip()
    try:
        accept = float(share) if share else None
    except ValueError:
        raise InputError(f'accept is "{share[:40]}"; give a share such as 0.95') from None
    return SuggestRequest(dry_run="dry_run" in form, review="review" in form, accept=accept)


@blueprint.get("/runs/<run_id>/doubts")
def show_doubts(run_id: str) -> str:
    """Show the labels that look wrong, and the tasks whose annotators disagree."""
    store = services().store
    run = store.get(run_id)
    shown = reports().get(run)
    if isinstance(shown, Awaited):
        return render_template(
            "report_awaited.html", run=run, part="doubts", heading="Labels that look wrong", awaited=shown
        )
    files = store.files(run.id)
    return render_template(
        "doubts.html",
        run=run,
        view=replace(view_of(run, shown), labels={}),  # each doubt names its own
        labels_address=None,
        suggestible=succession(store, run).in_force and not run.pool,
        found=read_doubts(files),
        job=read_job(files),
        most=MOST,
    )

"""Page of a project: how its labeling goes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from usl_backend.errors import RunError
from usl_backend.report import words
from usl_backend.runs import RunState, parse_project_key
from usl_backend.runs.suggest_job import read_job
from usl_backend.selection import METHODS
from usl_backend.web.api.projects import missing
from usl_backend.web.project_actions import tended_run
from usl_backend.web.project_watch import project_watch
from usl_backend.web.reports import Awaited, reports
from usl_backend.web.services import services

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usl_backend.labeling.state import LabelingState
    from usl_backend.report.record import Trust
    from usl_backend.runs import Run

blueprint = Blueprint("projects", __name__)

_RUNS = 10
"""Runs listed on the page."""


@blueprint.get("/projects")
def find() -> AnyResponse:
    """Lead to the page of the project in `?project=12`, an id or an address (the field on the list of runs)."""
    from usl_backend.studio.target import parse_target

    _, project = parse_target(request.args.get("project", ""))
    return redirect(url_for("projects.show", project=project))


@blueprint.get("/projects/<int:project>")
def show(project: int) -> Response:
    """Show how the labeling of a project goes; the page follows it by itself."""
    number, _ = parse_project_key(project)
    seen = project_watch().look(number)
    if seen.state is None and seen.error is not None and not services().store.list(project=number, limit=1):
        raise missing(seen)
    state, store = seen.state, services().store
    runs = store.list(project=number, limit=_RUNS)
    owner = None if state is None else tended_run(number, state.queue.run)
    budgets = _budgets(runs)
    page = render_template(
        "project.html",
        project=number,
        state=state,
        seen=seen,
        words=words,
        runs=runs,
        active=store.active(project=number),
        methods=METHODS,
        **_work(owner, budgets.get("budget_run")),
        **budgets,
        studio=_studio(),
        **({} if state is None else _coverage(state)),
    )
    response = Response(page, mimetype="text/html")
    response.add_etag()
    response.make_conditional(request)
    return response


def _work(owner: Run | None, measured: Run | None) -> dict[str, object]:
    """Return the last request for suggestions and the last change of the queue or measurement, and how far they are."""
    store = services().store
    jobs = [read_job(store.files(run.id), "tend") for run in (owner, measured) if run is not None]
    return {
        "owner": owner,
        "suggesting": None if owner is None else read_job(store.files(owner.id)),
        "tending": max((job for job in jobs if job), key=lambda job: job.started_at, default=None),
    }


def _budgets(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what other budgets would reach, by the newest run that has measured them, or a run that could."""
    from usl_backend.report.chart import budget_chart
    from usl_backend.runs.budget_curves import load_budgets

    done = [run for run in runs if run.state is RunState.DONE]
    for run in done:
        curve = load_budgets(services().store.files(run.id))
        if curve is not None:
            points = list(zip(curve.budgets, curve.picks, curve.random, strict=True))
            return {
                "budgets": curve,
                "budget_run": run,
                "budget_chart": budget_chart(curve),
                "points": points,
            }
    able = next((run for run in done if services().store.files(run.id).has_pool()), None)
    return {"budgets": None, "budget_run": able}


def _coverage(state: LabelingState) -> dict[str, object]:
    """Return what the page shows of the coverage: a chart, or why there is none."""
    from usl_backend.report.chart import coverage_chart, pick_place

    if not state.queue.run:
        return {}
    try:
        found = reports().get(services().store.get(state.queue.run))
    except RunError:
        return {}
    if isinstance(found, Awaited):
        return {"awaited": found}
    trust: Trust = found.report.trust
    labeled = 0 if state.coverage is None else state.coverage.labeled
    return {
        "trust": trust,
        "chart": coverage_chart(trust),
        "place": pick_place(trust, labeled, 0.0 if state.coverage is None else state.coverage.now),
    }


def _studio() -> str:
    """Return the address at which browsers reach Label Studio; "" if it is none."""
    host = services().host
    address = host.browser_url
    return address.rstrip("/") if re.match(r"https?://", address) else ""

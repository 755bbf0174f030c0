"""Pages under /usl: the list of runs, and one run with live progress."""

from __future__ import annotations

from flask import Blueprint, Response, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from usl_backend.runs import STAGES
from usl_backend.runs.extensions import read_extensions
from usl_backend.runs.succession import former, in_force, linked, succession, titles
from usl_backend.runs.suggest_job import STAGES as JOB_STAGES
from usl_backend.runs.suggest_job import read_job
from usl_backend.web.services import services

blueprint = Blueprint("pages", __name__)
root = Blueprint("root", __name__)


@root.get("/")
def go_to_runs() -> AnyResponse:
    """Lead a browser that opens the server's bare address to the list of runs."""
    return redirect(url_for("pages.list_runs"))


@blueprint.get("/")
def list_runs() -> str:
    """List all runs, newest first."""
    store = services().store
    runs = store.list(limit=200)
    return render_template(
        "runs.html", runs=runs, titles=titles(runs), in_force=in_force(store, runs), former=former(runs)
    )


@blueprint.get("/runs/<run_id>")
def show_run(run_id: str) -> Response:
    """Show one run, with live progress while it is active."""
    store = services().store
    run = linked(store, store.get(run_id))
    files, after = store.files(run.id), succession(store, run)
    page = render_template(
        "run.html",
        run=run,
        stages=STAGES,
        resumable=run.state.is_resumable and bool(run.settings),
        log=files.log,
        after=after,
        extensions=[one for one in read_extensions(files) if one.tasks or one.skipped],
        suggestible=after.in_force and not run.pool and files.has_published(),
        job=read_job(files),
        job_stages=JOB_STAGES,
    )
    return Response(page, mimetype="text/html")


@blueprint.post("/runs/<run_id>/cancel")
def cancel_run(run_id: str) -> AnyResponse:
    """Cancel a run (the Cancel button)."""
    services().jobs.cancel(run_id)
    return redirect(url_for("pages.show_run", run_id=run_id), 303)


@blueprint.post("/runs/<run_id>/resume")
def resume_run(run_id: str) -> AnyResponse:
    """Resume a run (the Resume button)."""
    services().jobs.resume(run_id)
    return redirect(url_for("pages.show_run", run_id=run_id), 303)

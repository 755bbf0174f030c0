"""Buttons of a project's page: start, rerun, publish, extend, suggest, reset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from usl_backend.errors import InputError, RunError, UnknownRunError
from usl_backend.jobs.suggesting import published_run, start_suggesting
from usl_backend.jobs.tending import start_tending
from usl_backend.runs import parse_project_key
from usl_backend.web.project_watch import project_watch
from usl_backend.web.services import services
from usl_backend.web.suggest_pages import request_of

if TYPE_CHECKING:
    from usl_backend.runs import Run

blueprint = Blueprint("actions", __name__)

_TEXTS: Final = ("budget", "method", "encoder", "control", "reserve", "seed")
_SWITCHES: Final = ("keep_labels", "next", "exclude_outliers")


def tended_run(project: int, named: str = "") -> Run | None:
    """Return the run whose queue the buttons change.

    Parameters
    ----------
    project
        Label Studio's id.
    named
        The run that published last, as far as Label Studio and the records say; "" takes the newest that has published.
    """
    store = services().store
    try:
        return store.get(named) if named else published_run(store, project)
    except RunError:
        return None


@blueprint.post("/projects/<int:project>/runs")
def start(project: int) -> AnyResponse:
    """Start a run with the settings of the form (the Start and Dry run buttons)."""
    number, _ = parse_project_key(project)
    explicit: dict[str, Any] = {name: text for name in _TEXTS if (text := request.form.get(name, "").strip())}
    explicit |= {name: True for name in _SWITCHES if name in request.form}
    services().jobs.enqueue(number, explicit=explicit, dry_run="dry_run" in request.form)
    return _back(number)


@blueprint.post("/projects/<int:project>/rerun")
def rerun(project: int) -> AnyResponse:
    """Start a run with the settings of an earlier one (the Rerun button)."""
    services().jobs.again(_run(project).id)
    return _back(project)


@blueprint.post("/projects/<int:project>/publish")
def publish(project: int) -> AnyResponse:
    """Publish what a dry run has chosen, or a run's queue again (the Publish buttons)."""
    run = _run(project)
    if run.dry_run:
        services().jobs.publish(run.id)
    else:
        start_tending(services().store, services().host, run, "publish")
    return _back(project)


@blueprint.post("/projects/<int:project>/budgets")
def measure(project: int) -> AnyResponse:
    """Measure what other budgets would reach, on the tasks of a run (the Measure budgets button)."""
    start_tending(services().store, services().host, _run(project), "measure")
    return _back(project)


@blueprint.post("/projects/<int:project>/extend")
def extend(project: int) -> AnyResponse:
    """Queue new tasks behind those of the run in force (the Extend button)."""
    start_tending(services().store, services().host, _owner(project), "extend")
    return _back(project)


@blueprint.post("/projects/<int:project>/suggestions")
def suggest(project: int) -> AnyResponse:
    """Suggest classes for a project's tasks (the Suggest button)."""
    start_suggesting(services().store, services().host, _owner(project), request_of(request.form))
    return _back(project)


@blueprint.post("/projects/<int:project>/reset")
def reset(project: int) -> AnyResponse:
    """Restore a project, if its number was typed to confirm it (the Reset button)."""
    typed = request.form.get("confirm", "").strip()
    if typed != str(project):
        raise InputError(
            f'"{typed[:20]}" does not confirm it, so nothing was reset; type {project}, the project\'s number'
        )
    start_tending(services().store, services().host, _owner(project), "reset")
    return _back(project)


def _run(project: int) -> Run:
    """Return the run that the form names; it has to be one of this project."""
    run = services().store.get(request.form.get("run", ""))
    into = run.published_to
    if project not in (run.project, 0 if into is None else into.id):
        raise UnknownRunError(f"run {run.id} is not one of project {project}")
    return run


def _owner(project: int) -> Run:
    """Return the run that published to a project last."""
    number, _ = parse_project_key(project)
    state = project_watch().look(number).state
    run = tended_run(number, "" if state is None else state.queue.run)
    if run is None:
        raise RunError(f"project {project} has no published queue; start a run first")
    return run


def _back(project: int) -> AnyResponse:
    """Lead back to the page, which looks at the queue again."""
    project_watch().forget(project)
    return redirect(url_for("projects.show", project=project), 303)

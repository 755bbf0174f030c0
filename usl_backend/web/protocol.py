"""Label Studio's ML-backend protocol, every call that Label Studio makes. Answers in milliseconds, computes nothing.

Bodies of /setup and START_TRAINING hold tokens: they are never logged, stored or quoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request

from usl_backend.errors import InputError, SettingsError
from usl_backend.runs import Run, RunState, parse_project_key, project_key
from usl_backend.settings import RunSettings, parse_extra_params
from usl_backend.web.errors import refusal
from usl_backend.web.services import check_text, json_body, page_of, services

blueprint = Blueprint("protocol", __name__)

UNPUBLISHED: Final = "usl"
"""Model version of a project that has no selection yet."""


@blueprint.get("/health")
def health() -> Mapping[str, Any]:
    """Say that the backend is there; Label Studio waits 1 s for it, before nearly everything."""
    return {"status": "UP", "model_class": "USL"}


@blueprint.post("/setup")
def setup() -> Mapping[str, Any]:
    """Remember a project's extra params and label config; Label Studio asks often, the last one wins.

    What cannot be used is refused here, because this is the only refusal that Label Studio shows to its user.
    """
    body = json_body()
    project, key = parse_project_key(body.get("project"))
    config = body.get("schema")
    label_config = config if isinstance(config, str) else ""
    store = services().store
    try:
        extra_params = parse_extra_params(body.get("extra_params"))
        check_text(extra_params)  # text within text: it was parsed a second time
        RunSettings.resolve(extra_params=extra_params)
    except SettingsError as error:
        store.remember_setup(project, key or str(project), label_config=label_config, refused=str(error))
        raise
    store.remember_setup(project, key or str(project), extra_params=extra_params, label_config=label_config)
    services().jobs.connected(project, request.host_url)
    return {"model_version": _model_versions(project, key)[0]}


@blueprint.post("/predict")
def predict() -> Mapping[str, Any]:
    """Answer one empty list per task: the queue is written in bulk, never one prediction at a time."""
    tasks = json_body(kept=False).get("tasks")
    if not isinstance(tasks, list):
        raise InputError("the body of POST /predict has no list of tasks; send an object with tasks")
    return {"results": [[] for _ in tasks]}


@blueprint.post("/webhook")
def webhook() -> Response | tuple[Response, int] | Mapping[str, Any]:
    """Start a run on START_TRAINING; everything else, our own changes included, is nothing to us."""
    body = json_body()
    if body.get("action") != "START_TRAINING":
        return {}
    told = body.get("project")
    if not isinstance(told, Mapping):
        raise InputError("START_TRAINING came without its project; send what Label Studio sends")
    project, _ = parse_project_key(told.get("id"))
    run = services().jobs.start_training(project, project_key=project_key(project, told.get("created_at")))
    if run.state is RunState.FAILED and run.error is not None:
        return refusal(run.error["type"], run.error["message"], HTTPStatus.BAD_REQUEST, run=run.id)
    return jsonify({"run": run.id, "state": run.state.value, "page": page_of(run)}), HTTPStatus.ACCEPTED


@blueprint.get("/versions")
def versions() -> Response | Mapping[str, Any]:
    """Model versions of a project, newest first.

    Label Studio 1.23 asks without naming the project; to the 404 it answers with the version it knows, which is
    that project's own.
    """
    named = request.args.get("project")
    if named is None:
        return refusal(
            "InputError", "no project is named; ask for /versions?project=12", HTTPStatus.NOT_FOUND
        )
    return {"versions": _model_versions(*parse_project_key(named))}


def _model_versions(project: int, key: str) -> list[str]:
    """What this project's finished runs have published, newest first; never empty.

    Label Studio may order the Data Manager by the scores of the version told in /setup, so that has to be the
    one in force.
    """
    runs = services().store.list(project=project, state=RunState.DONE, limit=20)
    published = [
        run.summary.model_version
        for run in runs
        if run.summary is not None and run.summary.model_version and _is_of(run, key)
    ]
    return published or [UNPUBLISHED]


def _is_of(run: Run, key: str) -> bool:
    """Whether the run was asked for by this very project, as far as is known."""
    return not key or not run.project_key or run.project_key == key

"""Label Studio's ML-backend protocol; every route responds within milliseconds.

Bodies of /setup and START_TRAINING contain tokens: they are never logged, stored or quoted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request

from usl_backend.errors import InputError, SettingsError
from usl_backend.runs import Run, RunState, parse_project_key, project_key
from usl_backend.settings import RunSettings, parse_extra_params
from usl_backend.web.errors import refusal
from usl_backend.web.services import check_depth, check_text, json_body, page_of, services

blueprint = Blueprint("protocol", __name__)

_LONGEST_ADDRESS: Final = 2_000
UNPUBLISHED: Final = "usl"
"""Model version of a project without a published run."""


@blueprint.get("/health")
def health() -> Mapping[str, Any]:
    """Health check; Label Studio calls it before most requests and waits 1 s."""
    return {"status": "UP", "model_class": "USL"}


@blueprint.post("/setup")
def setup() -> Mapping[str, Any]:
    """Store extra params, label config and Label Studio's public address; it calls often, and the last call wins.

    Invalid extra params are refused here, because Label Studio shows its user no later refusal.
    """
    body = json_body()
    project, key = parse_project_key(body.get("project"))
    config = body.get("schema")
    label_config = config if isinstance(config, str) else ""
    hostname = _public_address(body.get("hostname"))
    store = services().store
    try:
        extra_params = parse_extra_params(body.get("extra_params"))
        check_depth(extra_params)
        check_text(extra_params)  # extra_params may be JSON within JSON, which `json_body` has not checked
        RunSettings.resolve(extra_params=extra_params)
    except SettingsError as error:
        store.remember_setup(
            project, key or str(project), label_config=label_config, hostname=hostname, refused=str(error)
        )
        raise
    store.remember_setup(
        project, key or str(project), extra_params=extra_params, label_config=label_config, hostname=hostname
    )
    services().jobs.connected(project, request.host_url)
    return {"model_version": _model_versions(project, key)[0]}


@blueprint.post("/predict")
def predict() -> Mapping[str, Any]:
    """Return an empty prediction per task; the queue is written in bulk when a run is published."""
    tasks = json_body(kept=False).get("tasks")
    if not isinstance(tasks, list):
        raise InputError("the body of POST /predict has no list of tasks; send an object with tasks")
    return {"results": [[] for _ in tasks]}


@blueprint.post("/webhook")
def webhook() -> Response | tuple[Response, int] | Mapping[str, Any]:
    """Start a run on START_TRAINING; ignore all other events."""
    body = json_body()
    if body.get("action") != "START_TRAINING":
        return {}
    payload = body.get("project")
    if not isinstance(payload, Mapping):
        raise InputError(
            "START_TRAINING has no project in its payload; send Label Studio's own webhook payload"
        )
    project, _ = parse_project_key(payload.get("id"))
    run = services().jobs.start_training(project, project_key=project_key(project, payload.get("created_at")))
    if run.state is RunState.FAILED and run.error is not None:
        return refusal(run.error["type"], run.error["message"], HTTPStatus.BAD_REQUEST, run=run.id)
    return jsonify({"run": run.id, "state": run.state.value, "page": page_of(run)}), HTTPStatus.ACCEPTED


@blueprint.get("/versions")
def versions() -> Response | Mapping[str, Any]:
    """List the model versions of a project, the one in force first, then newest first.

    Label Studio 1.23 sends no project; on the 404 it falls back to the version it knows, which is that project's own.
    """
    named = request.args.get("project")
    if named is None:
        return refusal(
            "InputError", "the request names no project; use /versions?project=12", HTTPStatus.NOT_FOUND
        )
    return {"versions": _model_versions(*parse_project_key(named))}


def _public_address(told: object) -> str:
    """Return the address under which browsers reach Label Studio, or its sub-path; "" for anything else."""
    if not isinstance(told, str) or len(told) > _LONGEST_ADDRESS:
        return ""
    return told.rstrip("/") if re.fullmatch(r"(?:https?:/)?/[^\s?#]+", told) else ""


def _model_versions(project: int, key: str) -> list[str]:
    """Return the model versions published for a project, the one in force first, then the newest; never empty.

    Label Studio may order the Data Manager by the scores of the version returned by /setup, so that has to be the one
    in force: an earlier run's where that was published again.
    """
    store = services().store
    state = store.queue_state(key or store.key_of(project))
    runs = store.list(project=project, state=RunState.DONE, limit=20)
    published = [
        run.summary.model_version
        for run in runs
        if run.summary is not None and run.summary.model_version and _is_of(run, key)
    ]
    now = [] if state is None else [state.model_version]
    return list(dict.fromkeys((*now, *published))) or [UNPUBLISHED]


def _is_of(run: Run, key: str) -> bool:
    """Return True if the run belongs to this project, as far as is known, and not to an earlier one with its id."""
    return not key or not run.project_key or run.project_key == key

"""Liveness and readiness probes; they need no credentials, so they reveal nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify

from usl_backend.encoders import DEFAULTS
from usl_backend.encoders.presence import weights_are_here
from usl_backend.errors import USLError
from usl_backend.settings import RunSettings
from usl_backend.web.services import services

blueprint = Blueprint("probes", __name__)

LEAST_FREE: Final = 100 * 2**20
"""Minimum free space in the data directory, in bytes."""


@blueprint.get("/livez")
def livez() -> Mapping[str, Any]:
    """Liveness probe: 200 while the process responds."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Readiness probe: 200 while a run could start (database, disk, supervisor, Label Studio, encoder's weights)."""
    checks = {
        "database": _database(),
        "disk": shutil.disk_usage(services().store.directory).free >= LEAST_FREE,
        "supervisor": services().jobs.is_alive,
        "label_studio": services().studio.answers(),
        "weights": _weights(),
    }
    ready = all(checks.values())
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return jsonify({"status": "ok" if ready else "not ready", "checks": checks}), status


def _database() -> bool:
    """Return True if runs can be read."""
    try:
        services().store.list(limit=1)
    except USLError:
        return False
    return True


def _weights() -> bool:
    """Return True if the weights of the default encoder are installed."""
    try:
        return weights_are_here(RunSettings.resolve().encoder or DEFAULTS["image"])
    except USLError:
        return False

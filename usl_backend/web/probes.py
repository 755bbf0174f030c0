"""Whether the server lives and is fit for work; open to everybody, so they tell nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify

from usl_backend.errors import USLError

from .services import services

blueprint = Blueprint("probes", __name__)

LEAST_FREE: Final = 100 * 2**20
"""Bytes that have to be free in the data directory."""


@blueprint.get("/livez")
def livez() -> Mapping[str, Any]:
    """Say that the process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Say whether a run could be queued and started now: database, disk, supervisor."""
    checks = {
        "database": _database(),
        "disk": shutil.disk_usage(services().store.directory).free >= LEAST_FREE,
        "supervisor": services().jobs.is_alive,
    }
    ready = all(checks.values())
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return jsonify({"status": "ok" if ready else "not ready", "checks": checks}), status


def _database() -> bool:
    """Whether runs can be read."""
    try:
        services().store.list(limit=1)
    except USLError:
        return False
    return True

"""Whether the server lives and is fit for work; open to everybody, so they tell nothing else."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify

from usl_backend.encoders import DEFAULTS
from usl_backend.encoders.presence import weights_are_here
from usl_backend.errors import USLError
from usl_backend.settings import RunSettings
from usl_backend.studio import reach

from .services import services

blueprint = Blueprint("probes", __name__)

LEAST_FREE: Final = 100 * 2**20
"""Bytes that have to be free in the data directory."""
_FRESH: Final = 10.0
"""Seconds for which an answer of Label Studio counts: anybody may ask us, and must not make us ask it each time."""


class StudioWatch:
    """Whether Label Studio answers, asked by one thread at a time and not more often than every ten seconds.

    Parameters
    ----------
    url
        Its address.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._asking = threading.Lock()
        self._answers = False
        self._asked = -_FRESH

    def answers(self) -> bool:
        """Whether it answered when it was last asked; while another thread asks, what was known before."""
        if time.monotonic() > self._asked + _FRESH and self._asking.acquire(blocking=False):
            try:
                self._answers = reach.is_reachable(self._url)
                self._asked = time.monotonic()
            finally:
                self._asking.release()
        return self._answers


@blueprint.get("/livez")
def livez() -> Mapping[str, Any]:
    """Say that the process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Say whether a run would get going now: database, disk, supervisor, Label Studio, the encoder's weights."""
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
    """Whether runs can be read."""
    try:
        services().store.list(limit=1)
    except (USLError, sqlite3.Error):
        return False
    return True


def _weights() -> bool:
    """Whether the weights of the encoder that runs use, unless their project says otherwise, are here."""
    try:
        return weights_are_here(RunSettings.resolve().encoder or DEFAULTS["image"])
    except USLError:
        return False

"""A run's split as a ZIP archive. What is in it is decided in `exports/`."""

from __future__ import annotations

from flask import Blueprint, Response, request

from usl_backend.errors import InputError
from usl_backend.exports import archive_split
from usl_backend.exports.project import project_split
from usl_backend.studio.client import StudioClient
from usl_backend.web.services import services

blueprint = Blueprint("api_exports", __name__)

_SWITCH = {"": False, "0": False, "false": False, "1": True, "true": True}


@blueprint.get("/runs/<run_id>/export")
def export_run(run_id: str) -> Response:
    """Labeled and unlabeled tasks of a finished run: `?format=csv&include_labeled=true&control=choice`."""
    found = services()
    run = found.store.get(run_id)
    include = request.args.get("include_labeled", "").lower()
    if include not in _SWITCH:
        raise InputError(f'include_labeled is "{include[:40]}"; give true or false')
    with StudioClient.from_settings(found.host) as client:
        split = project_split(
            found.store,
            run,
            client=client,
            control=request.args.get("control"),
            include_labeled=_SWITCH[include],
        )
    archive = archive_split(split, format=request.args.get("format", "json")[:40])
    name = f"export-{run.id}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(archive, mimetype="application/zip", headers=headers)

"""Export of a run as a ZIP archive."""

from __future__ import annotations

import tempfile

from flask import Blueprint, Response, request, send_file

from usl_backend.errors import InputError
from usl_backend.exports import archive_split
from usl_backend.exports.media import Media, files_of
from usl_backend.exports.project import project_split, refuse_unlabeled
from usl_backend.sources.media import MediaAccess
from usl_backend.studio.client import StudioClient
from usl_backend.web.services import services

blueprint = Blueprint("api_exports", __name__)

_MEDIA: dict[str, Media] = {"copy": "copy", "none": "none"}
_SWITCH = {"": False, "0": False, "false": False, "1": True, "true": True}


@blueprint.get("/runs/<run_id>/export")
def export_run(run_id: str) -> Response:
    """Export a run's labeled and unlabeled tasks: `?format=csv&media=copy&include_labeled=true&control=choice`."""
    found = services()
    run = found.store.get(run_id)
    include = request.args.get("include_labeled", "").lower()
    if include not in _SWITCH:
        raise InputError(f'include_labeled is "{include[:40]}"; give true or false')
    media = request.args.get("media", "")
    if media and media not in _MEDIA:
        raise InputError(f'media is "{media[:40]}"; give copy or none')
    archive = tempfile.TemporaryFile()  # noqa: SIM115 - the response closes it when it is sent
    try:
        refuse_unlabeled(run)
        files = found.store.files(run.id)
        with (
            StudioClient.from_settings(found.host) as client,
            MediaAccess.of_run(found.host, files, client).open(client) as stored,
        ):
            split = project_split(
                found.store,
                run,
                client=client,
                control=request.args.get("control"),
                include_labeled=_SWITCH[include],
            )
            archive_split(
                split,
                archive,
                format=request.args.get("format", "json")[:40],
                media=_MEDIA.get(media),
                fetch=files_of(stored, files.read_inventory()),
            )
        archive.seek(0)
        return send_file(
            archive, mimetype="application/zip", as_attachment=True, download_name=f"export-{run.id}.zip"
        )
    except BaseException:
        archive.close()
        raise

"""Export of a run as a ZIP archive."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from flask import Blueprint, Response, request, send_file

from usl_backend.errors import InputError
from usl_backend.jobs.answering import ArchiveRequest, archive_of_run
from usl_backend.web.services import STUDIO_SECONDS, services, share_of

if TYPE_CHECKING:
    from usl_backend.exports.media import Media
    from usl_backend.runs import Run

blueprint = Blueprint("api_exports", __name__)

_MEDIA: dict[str, Media] = {"copy": "copy", "none": "none"}
_SWITCH = {"": False, "0": False, "false": False, "1": True, "true": True}


@blueprint.get("/runs/<run_id>/export")
def export_run(run_id: str) -> Response:
    """Export a run: `?format=csv&media=copy&include_labeled=true&control=c&suggested=true&min_confidence=0.9`."""
    from usl_backend.exports.project import refuse_unlabeled

    run = services().store.get(run_id)
    wanted = _request()
    refuse_unlabeled(run)
    archive = _archive(run, wanted)
    return send_file(
        archive, mimetype="application/zip", as_attachment=True, download_name=f"export-{run.id}.zip"
    )


def _request() -> ArchiveRequest:
    """Check the query."""
    from usl_backend.exports.write import check_suggested

    media = request.args.get("media", "")
    if media and media not in _MEDIA:
        raise InputError(f'media is "{media[:40]}"; give copy or none')
    wanted = ArchiveRequest(
        format=request.args.get("format", "json")[:40],
        media=_MEDIA.get(media),
        include_labeled=_switch("include_labeled"),
        control=request.args.get("control"),
        suggested=_switch("suggested"),
        min_confidence=share_of("min_confidence"),
    )
    if wanted.suggested:
        check_suggested(wanted.format)
    elif wanted.min_confidence is not None:
        raise InputError("min_confidence is about suggestions; give suggested=true too")
    return wanted


def _switch(name: str) -> bool:
    """Return a parameter that is true or false, false by default."""
    value = request.args.get(name, "").lower()
    if value not in _SWITCH:
        raise InputError(f'{name} is "{value[:40]}"; give true or false')
    return _SWITCH[value]


def _archive(run: Run, wanted: ArchiveRequest) -> IO[bytes]:
    """Return the archive as an open file at its start; the response closes it when it is sent."""
    from usl_backend.studio.client import StudioClient

    host, project = services().host, run.published_to
    assert project is not None, "its picks can have labels"
    with StudioClient.from_settings(host, attempts=1, timeout=STUDIO_SECONDS) as client:
        client.project(project.id)  # whatever is wrong with it is said before a process is started
    return archive_of_run(host, run, wanted)

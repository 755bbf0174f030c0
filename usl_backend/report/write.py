"""Export of a report as one HTML file that needs neither a server nor a network."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from usl_backend.errors import InputError, MediaError, RunError
from usl_backend.report.check import control_set, load_check
from usl_backend.report.mapdata import described, packed, packed_states
from usl_backend.report.record import load_map
from usl_backend.report.sources import Sources, Thumbnails, image_type
from usl_backend.report.states import known_states
from usl_backend.report.view import SCRIPTS, Page, View, static_directory, studio_links, template_directory
from usl_backend.report.words import moment
from usl_backend.runs.artifacts import atomic_write, check_folder
from usl_backend.suggesting.accuracy import load_accuracy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from usl_backend.progress import Progress
    from usl_backend.report.record import Report
    from usl_backend.report.sources import Read
    from usl_backend.runs import Run, RunFiles


def write_report(
    run: Run,
    files: RunFiles,
    report: Report,
    path: Path,
    *,
    read: Read | None,
    studio_url: str = "",
    progress: Progress | None = None,
) -> int:
    """Write a run's report as one HTML file with embedded scripts, style and thumbnails.

    Parameters
    ----------
    run, files, report
        Run, its artifacts and its report.
    path
        File to write, replaced atomically. Its folder must exist.
    read
        Reads the media of thumbnails that are not cached; None shows only cached ones.
    studio_url
        Address of Label Studio for the links; "" disables them.
    progress
        Receives the number of thumbnails done.

    Returns
    -------
    int
        Number of images that could not be shown.

    Raises
    ------
    InputError
        The file's folder does not exist, or the file cannot be written.
    RunError
        The map is missing.
    """
    check_folder(path)
    points = load_map(files)
    if points is None:
        raise RunError(
            f"the map of run {run.id} is missing; run `usl-backend report {run.id} --force` to compute it again"
        )
    sources = Sources(files)
    links = studio_links(run, studio_url)
    pictures: dict[int, str] = {}
    controls = len(control_set(files))
    states = known_states(files, note=_UNREAD)
    view = View(
        run,
        report,
        sources,
        pictures.get,
        links,
        controls,
        load_check(files),
        load_accuracy(files),
        labels=states.labels,
    )
    shown = view.shown()
    if report.modality == "image":
        pictures.update(_pictures(shown, Thumbnails(files, sources, read or _unread), progress))
    cards = {
        task: {"name": card.name, "image": card.image, "text": card.text, "alt": card.alt}
        for task in shown
        if not (card := view.card(task)).missing
    }
    address = links(0)
    scripts = [
        _inline((static_directory() / name).read_text(encoding="utf-8")) for name in (*SCRIPTS, "pictures.js")
    ]
    page = _environment().get_template("report/file.html").render(
        view=view,
        page=Page(1, 1, 0, len(report.whys)),
        near=view.page(1),
        address=None,
            json_address=None,
            map_address=None,
            instance_address=None,
            states_address=None,
            thumbnail_address=None,
            labels_address=None,
        row_address=lambda rank: f"#pick-{rank + 1}",
        style=_safe((static_directory() / "report.css").read_text(encoding="utf-8")),
        map_data=_data(
            {
                **packed(points, task_url=address.removesuffix("0") + "{task}" if address else None),
                **described(report),
            }
        ),
        map_states=_data(packed_states(states, points.ids)),
        map_cards=_data(cards),
        scripts=[_safe(script) for script in scripts],
        policy=_policy(scripts),
        written=moment(time.time()),
    )  # fmt: skip
    try:
        with atomic_write(path) as stream:
            # The names of files may not be UTF-8.
            stream.write(page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another file") from error
    return len(shown) - len(pictures) if report.modality == "image" else 0


_UNREAD: Final = "Labels were not read when this file was written."


def _pictures(tasks: Iterable[int], thumbnails: Thumbnails, progress: Progress | None) -> Mapping[int, str]:
    """Return thumbnails as data URLs; those that cannot be read are left out."""
    wanted = list(tasks)

    def one(task: int) -> str | None:
        try:
            path = thumbnails.path(task)
            return f"data:{image_type(path)};base64," + base64.b64encode(path.read_bytes()).decode()
        except MediaError:
            return None

    found = {}
    with ThreadPoolExecutor(8) as pool:
        for done, (task, address) in enumerate(zip(wanted, pool.map(one, wanted), strict=True), start=1):
            if address is not None:
                found[task] = address
            if progress is not None:
                progress("making thumbnails", done, len(wanted))
    return found


def _unread(_instance: object) -> bytes:
    """Refuse to read media; used when there is no reader."""
    raise MediaError("media are not read for this report")


def _environment() -> Any:
    """Return the template environment, with autoescaping."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(template_directory()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _safe(text: str) -> Any:
    """Mark our own text as safe, so it is not escaped."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - our files and JSON escaped by _data, never foreign text  # nosec B704


def _data(value: object) -> Any:
    """Format JSON for a script element, escaped so that it cannot end the element."""
    text = json.dumps(value, separators=(",", ":"))
    return _safe(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _inline(script: str) -> str:
    """Escape a script for a page; the escapes have the same meaning within its strings."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: Iterable[str]) -> str:
    """Build the content security policy: only these scripts run, nothing is fetched; Plotly needs eval and styles."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:; "
        "form-action 'none'; base-uri 'none'"
    )

"""Label Studio's editor shows of a task what is embedded of it."""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from live_studio import LiveProject, LiveStudio
from shown_configs import SHOWN, Shown
from studio_ui import StudioUI

from usl_backend.demo.dataset import write_images
from usl_backend.studio.fields import embedded_fields
from usl_backend.studio.label_config import parse

FOLDER = "pics"
CASES = [case for case in SHOWN if "ReactCode" not in case.config]
"""Open-source Label Studio shows a note in place of ReactCode."""


def filled(value: Any) -> Any:
    """The data of a task with real addresses."""
    text = json.dumps(value).replace("{n}", "0")
    return json.loads(re.sub(r'"/(?=[ab]\d)', f'"/data/local-files/?d={FOLDER}/', text))


def editor_shows(ui: StudioUI, project: LiveProject, case: Shown) -> tuple[set[str], str]:
    """Open the project's task: the pictures that the editor asks for, and the texts on the page."""
    asked: set[str] = set()

    def note(request: Any) -> None:
        # The table beside the editor shows thumbnails, which are images; the editor fetches.
        if "/data/local-files/" in request.url and request.resource_type in {"fetch", "xhr"}:
            asked.update(parse_qs(urlsplit(request.url).query)["d"])

    ui.page.on("request", note)
    ui.page.goto(f"{ui.url}/projects/{project.id}/data?task={project.tasks[0]}")
    ui.page.locator(".lsf-main-view").first.wait_for()
    if ".png" in case.shown[0]:
        ui.page.wait_for_function("() => document.querySelector('.lsf-main-view img')?.naturalWidth > 0")
    ui.shot(re.sub(r"\W+", "-", case.kind))
    ui.page.remove_listener("request", note)
    return asked, ui.page.locator(".lsf-main-view").first.inner_text()


def test_editor__shows_what_is_embedded(
    label_studio: LiveStudio, make_project: Callable[..., LiveProject], ui: StudioUI
) -> None:
    folder = label_studio.documents_root / FOLDER
    folder.mkdir(exist_ok=True)
    for path, name in zip(write_images(folder), ("a0.png", "b0.png"), strict=False):
        path.rename(folder / name)
    ui.log_in(label_studio.username, label_studio.password)
    for case in CASES:
        data = filled(case.data)
        project = make_project(label_config=case.config, data=[data])
        storage = {"project": project.id, "path": str(folder), "use_blob_urls": True, "title": FOLDER}
        project.client.http.json("POST", "/api/storages/localfiles", body=storage)
        (field,) = embedded_fields(parse(case.config), case.data_key, first=[data])
        sources = field.sources(data)
        asked, text = editor_shows(ui, project, case)
        if ".png" in sources[0]:
            pictures = [parse_qs(urlsplit(source).query)["d"][0] for source in sources]
            # Of a list the editor loads the page that is open, and its neighbour.
            assert pictures[0] in asked <= set(pictures), case.kind
        else:
            assert all(source in text for source in sources), (case.kind, text)

"""A backend whose report the browser tests look at, and where its map shows what."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from live_studio import LiveStudio
from playwright.sync_api import Page
from screenshots import await_report

from usl_backend.demo import dataset, project
from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.studio_server import free_port
from usl_backend.studio.client import StudioClient


class Backend:
    """A backend at work for one project."""

    def __init__(self, server: BackendServer, project_id: int, *, budget: int) -> None:
        self.budget = budget
        self.server, self.project, self.url = server, project_id, server.url

    def start(self, **settings: Any) -> str:
        body = {"project": self.project, "budget": self.budget, **settings}
        answer = requests.post(f"{self.url}/usl/api/runs", json=body, timeout=30)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def wait(self, run: str, *, state: str = "done", seconds: float = 240) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while (told := self.server.run(run))["state"] != state:
            assert told["state"] in {"queued", "running"}, told["error"]
            assert time.monotonic() < until, f"run {run} is still {told['state']}"
            time.sleep(0.3)
        return told

    def await_report(self, run: str) -> None:
        await_report(self.url, run, seconds=240)


@contextmanager
def with_clothing(
    studio: LiveStudio, client: StudioClient, directory: Path, *, folder: str, tasks: int, budget: int
) -> Iterator[Backend]:
    """A backend for a project of so many pictures, which lie in a folder of the Label Studio's disk."""
    place = studio.documents_root / folder
    place.mkdir()
    names = [path.name for path in dataset.write_images(place)][:tasks]
    body = {"title": "Clothing", "label_config": project.label_config(dataset.CLASSES)}
    made = int(client.http.json("POST", "/api/projects/", body=body)["id"])
    storage = {"project": made, "path": str(place), "use_blob_urls": True, "title": folder}
    client.http.json("POST", "/api/storages/localfiles", body=storage)
    rows = [{"data": {"image": f"/data/local-files/?d={folder}/{name}"}} for name in names]
    client.http.json("POST", f"/api/projects/{made}/import", body=rows)
    with BackendServer(directory, studio_url=studio.url, api_key=studio.token, port=free_port()) as server:
        yield Backend(server, made, budget=budget)
    client.http.request("DELETE", f"/api/projects/{made}/").close()


def drawn(page: Page) -> None:
    page.locator("#map[data-state=drawn]").wait_for(timeout=60_000)


def await_on_page(page: Page, condition: str, arg: object = None, *, seconds: float = 60) -> None:
    """Wait until a condition holds on a page; `wait_for_function` would need eval, which our pages forbid."""
    until = time.monotonic() + seconds
    while not page.evaluate(condition, arg):
        assert time.monotonic() < until, f"it never held: {condition}"
        page.wait_for_timeout(50)


def place_of(page: Page, task: int) -> tuple[float, float]:
    """Where the map shows a task, in pixels of the window."""
    x, y = page.evaluate(
        """task => { const map = document.getElementById('map'), layout = map._fullLayout;
        const row = map.data[0].customdata.find(i => window.taskIds[i] === task);
        const at = map.data[0].customdata.indexOf(row), box = map.getBoundingClientRect();
        return [box.x + layout._size.l + layout.xaxis.l2p(map.data[0].x[at]),
                box.y + layout._size.t + layout.yaxis.l2p(map.data[0].y[at])]; }""",
        task,
    )
    return float(x), float(y)


def learn_places(page: Page, backend: Backend, run: str) -> None:
    """Tell the page which row is which task, for `place_of`."""
    told = requests.get(f"{backend.url}/usl/api/runs/{run}/map", timeout=30).json()
    page.evaluate(
        "told => { const raw = atob(told.arrays.ids.data);"
        " window.taskIds = new Int32Array(Uint8Array.from(raw, c => c.charCodeAt(0)).buffer) }",
        told,
    )

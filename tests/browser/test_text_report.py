"""The report of a run on texts in a real browser: excerpts are read as text, whatever is in them."""

from collections.abc import Iterator

import pytest
from live_studio import LiveStudio
from playwright.sync_api import Page
from report_backend import Backend, drawn, learn_places, place_of

from usl_backend.demo import project, texts
from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.studio_server import free_port
from usl_backend.studio.client import StudioClient

MARKUP = (
    "<b>bold</b> <img src=x onerror=\"document.title='run'\"> <script>document.title = 'run'</script> & more"
)
LONG = "A long text about long texts. " * 200
BUDGET = 6


@pytest.fixture(scope="module")
def backend(
    label_studio: LiveStudio, client: StudioClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    packages = texts.load()[:40]
    body = {"title": "Texts", "label_config": project.label_config(texts.classes_of(packages), "text")}
    made = int(client.http.json("POST", "/api/projects/", body=body)["id"])
    # Markup of its own kind in several tasks: one of them is a pick.
    rows = (
        [package.description for package in packages] + [f"{MARKUP} {number}" for number in range(8)] + [LONG]
    )
    client.http.json("POST", f"/api/projects/{made}/import", body=[{"data": {"text": text}} for text in rows])
    directory = tmp_path_factory.mktemp("backend")
    with BackendServer(
        directory, studio_url=label_studio.url, api_key=label_studio.token, port=free_port()
    ) as server:
        yield Backend(server, made, budget=BUDGET)
    client.http.request("DELETE", f"/api/projects/{made}/").close()


def test_report__texts_are_shown_as_texts(
    backend: Backend, client: StudioClient, page: Page, heard: list[str]
) -> None:
    run = backend.start()
    backend.wait(run)
    backend.await_report(run)
    shown = {task.id: str(task.data["text"]) for task in client.tasks(backend.project)}
    picks = backend.server.picks(run)
    marked = next(task for task in picks if shown[task].startswith(MARKUP))

    page.goto(f"{backend.url}/usl/runs/{run}/gallery")
    told = page.locator("main").inner_text()
    for task in picks:
        assert " ".join(shown[task].split())[:100] in " ".join(told.split())
    assert page.locator("main b", has_text="bold").count() == 0
    assert LONG not in told
    assert page.title() != "run"

    page.goto(f"{backend.url}/usl/runs/{run}/map")
    drawn(page)
    learn_places(page, backend, run)
    page.mouse.move(*place_of(page, marked))
    page.locator("#seen", has_text=f"task {marked}").wait_for()
    page.locator("#seen", has_text="<b>bold</b>").wait_for()
    assert page.locator("#seen b", has_text="bold").count() == 0
    assert page.locator("#seen img").count() == 0
    assert page.title() != "run"

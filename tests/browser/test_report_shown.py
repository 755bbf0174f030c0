"""The report of a real run in a real browser: 1,200 pictures in a real Label Studio."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from live_studio import LiveStudio
from playwright.sync_api import Page
from report_backend import Backend, drawn, learn_places, place_of
from studio_ui import StudioUI

from usl_backend.cli import main
from usl_backend.demo import dataset, project
from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.studio_server import free_port
from usl_backend.studio.client import StudioClient

ARTIFACTS = Path(__file__).parent.parent.parent / "artifacts" / "browser"
FOLDER = "report"
BUDGET = 40
PARTS = ("trust", "map", "gallery", "why")


@pytest.fixture(scope="module")
def backend(
    label_studio: LiveStudio, client: StudioClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    folder = label_studio.documents_root / FOLDER
    folder.mkdir()
    names = [path.name for path in dataset.write_images(folder)]
    body = {"title": "Clothing", "label_config": project.label_config(dataset.CLASSES)}
    made = int(client.http.json("POST", "/api/projects/", body=body)["id"])
    storage = {"project": made, "path": str(folder), "use_blob_urls": True, "title": FOLDER}
    client.http.json("POST", "/api/storages/localfiles", body=storage)
    rows = [{"data": {"image": f"/data/local-files/?d={FOLDER}/{name}"}} for name in names]
    client.http.json("POST", f"/api/projects/{made}/import", body=rows)
    directory = tmp_path_factory.mktemp("backend")
    with BackendServer(
        directory, studio_url=label_studio.url, api_key=label_studio.token, port=free_port()
    ) as server:
        yield Backend(server, made, budget=BUDGET)
    client.http.request("DELETE", f"/api/projects/{made}/").close()


@pytest.fixture(scope="module")
def run(backend: Backend) -> str:
    """A finished run whose report is made."""
    made = backend.start()
    backend.wait(made)
    backend.await_report(made)
    return made


@pytest.fixture
def shots(request: pytest.FixtureRequest) -> Path:
    folder = ARTIFACTS / re.sub(r"\W+", "-", request.node.name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def test_run_page__progress_moves_and_the_run_is_cancelled_and_resumed(
    backend: Backend, page: Page, heard: list[str], shots: Path
) -> None:
    run = backend.start(image_size=160)
    page.goto(f"{backend.url}/usl/")
    page.get_by_role("link", name=run, exact=True).click()
    words, seen = page.locator("#words"), set()
    page.locator("li.now", has_text="embed").wait_for(timeout=60_000)
    until = time.monotonic() + 120
    while len(seen) < 3:
        seen.add(words.inner_text())
        assert time.monotonic() < until, f"progress stands still: {seen}"
        assert words.count(), f"the run was over before progress moved: {seen}"
        page.wait_for_timeout(500)
    assert any(re.search(r"\d+ of 1,200", text) for text in seen)
    page.screenshot(path=shots / "progress.png")
    page.get_by_role("button", name="Cancel").click()
    page.locator("#state", has_text="cancelled").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.locator("#state", has_text=re.compile("queued|running")).wait_for()
    page.locator("#state", has_text="done").wait_for(timeout=240_000)
    assert page.get_by_text(f"{BUDGET} tasks").count()
    page.screenshot(path=shots / "done.png")


def test_map__has_every_task_shows_what_is_pointed_at_and_opens_it(
    backend: Backend, run: str, ui: StudioUI, label_studio: LiveStudio, heard: list[str], shots: Path
) -> None:
    ui.log_in(label_studio.username, label_studio.password)
    heard.clear()  # what Label Studio's own pages say is not ours
    page = ui.page
    page.goto(f"{backend.url}/usl/runs/{run}/map")
    drawn(page)
    assert page.evaluate("document.getElementById('map').data.map(t => t.x.length)") == [1200, BUDGET, 0]
    learn_places(page, backend, run)
    picks = backend.server.picks(run)
    task = picks[2]
    page.mouse.move(*place_of(page, task))
    page.locator("#seen", has_text=f"Pick 3, task {task}").wait_for()
    picture = page.locator("#seen img")
    picture.wait_for()
    page.wait_for_function("document.querySelector('#seen img').naturalWidth > 0")
    page.screenshot(path=shots / "map.png")
    page.get_by_label("cluster").check()
    page.screenshot(path=shots / "clusters.png")
    with page.context.expect_page() as opened:
        page.mouse.click(*place_of(page, task))
    assert f"/projects/{backend.project}/data?tab=" in opened.value.url
    assert f"task={task}" in opened.value.url
    StudioUI(opened.value, label_studio.url, shots).page.locator(".lsf-current-task__task-id").wait_for()
    assert str(task) in opened.value.locator(".lsf-current-task__task-id").inner_text()
    opened.value.screenshot(path=shots / "opened.png")
    opened.value.close()
    heard.clear()


def test_map__picks_can_be_walked_with_the_keyboard(
    backend: Backend, run: str, page: Page, heard: list[str]
) -> None:
    page.goto(f"{backend.url}/usl/runs/{run}/map")
    drawn(page)
    page.get_by_role("button", name="next pick").focus()
    picks = backend.server.picks(run)
    for rank in (0, 1):
        page.keyboard.press("Enter")
        page.locator("#seen", has_text=f"Pick {rank + 1}, task {picks[rank]}").wait_for()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.locator("#seen", has_text=f"Pick 1, task {picks[0]}").wait_for()


def test_gallery__order_is_the_rank_order_and_pictures_are_there(
    backend: Backend, run: str, page: Page, heard: list[str], shots: Path
) -> None:
    page.goto(f"{backend.url}/usl/runs/{run}/gallery")
    cards = page.locator("#picks .card")
    shown = [int(re.search(r"task (\d+)", text)[1]) for text in cards.all_inner_texts()]  # type: ignore[index]
    assert shown == backend.server.picks(run)
    first = cards.first.locator("img")
    page.wait_for_function("image => image.naturalWidth > 0", arg=first.element_handle())
    page.wait_for_load_state("networkidle")
    page.screenshot(path=shots / "gallery.png")


def test_trust_and_why__on_a_wide_screen_and_on_a_phone(
    backend: Backend, run: str, page: Page, heard: list[str], shots: Path
) -> None:
    for width, height in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for part in PARTS:
                page.goto(f"{backend.url}/usl/runs/{run}/{part}")
                if part == "map":
                    drawn(page)
                page.wait_for_load_state("networkidle")
                page.screenshot(path=shots / f"{part}-{width}-{scheme}.png")
                over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert over <= 0, f"{part} is {over} px wider than a {width} px screen"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages__have_no_serious_accessibility_fault(
    backend: Backend, run: str, page: Page, heard: list[str], scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    found = {}
    for path in ("", f"runs/{run}", *(f"runs/{run}/{part}" for part in PARTS)):
        page.goto(f"{backend.url}/usl/{path}")
        if path.endswith("map"):
            drawn(page)
        violations = Axe().run(page).response["violations"]
        found[path] = [
            (fault["id"], fault["impact"], [node["html"][:200] for node in fault["nodes"][:3]])
            for fault in violations
            if fault["impact"] in ("serious", "critical")
        ]
    assert found == {path: [] for path in found}


def test_file__opens_without_a_server_and_shows_the_same(
    backend: Backend,
    run: str,
    page: Page,
    label_studio: LiveStudio,
    heard: list[str],
    shots: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(backend.server.data_directory))
    monkeypatch.setenv("LABEL_STUDIO_URL", label_studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    path = tmp_path / "report.html"
    with pytest.raises(SystemExit) as left:
        main(["report", run, "-o", str(path), "--json"])
    assert left.value.code == 0
    assert json.loads(capsys.readouterr().out)["pictures_missing"] == 0
    texts: dict[str, str] = {}
    for part in ("trust", "why"):
        page.goto(f"{backend.url}/usl/runs/{run}/{part}")
        texts[part] = page.locator("table").last.inner_text()
    # The last page may still begin to fetch pictures, and would complain that it cannot.
    page.goto("about:blank")
    page.context.set_offline(True)
    page.goto(path.as_uri())
    drawn(page)
    assert page.evaluate("document.getElementById('map').data.map(t => t.x.length)") == [1200, BUDGET, 0]
    assert page.locator("#part-trust table").last.inner_text() == texts["trust"]
    assert page.locator("#part-why table").inner_text() == texts["why"]
    cards = page.locator("#picks .card").all_inner_texts()
    assert [int(re.search(r"task (\d+)", text)[1]) for text in cards] == backend.server.picks(run)  # type: ignore[index]
    assert page.evaluate("[...document.images].every(image => image.src.startsWith('data:'))")
    page.screenshot(path=shots / "file.png")
    violations = Axe().run(page).response["violations"]
    assert [f["id"] for f in violations if f["impact"] in ("serious", "critical")] == []

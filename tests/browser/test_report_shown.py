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
from report_backend import Backend, await_on_page, drawn, learn_places, place_of, with_clothing
from screenshots import PAGES, SIZES, settled
from studio_ui import StudioUI

from usl_backend.cli import main
from usl_backend.demo import project
from usl_backend.studio.annotated import annotator_names
from usl_backend.studio.client import StudioClient

ARTIFACTS = Path(__file__).parent.parent.parent / "artifacts" / "browser"
FOLDER = "report"
TASKS, BUDGET = 1200, 40
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FOCUSABLE = (
    "a[href]:visible, button:enabled:visible, input:not([type=radio]):enabled:visible, summary:visible, "
    "[tabindex='0']:visible"
)
OUTLINED = (
    "document.activeElement === document.body "
    "|| getComputedStyle(document.activeElement).outlineStyle !== 'none'"
)


@pytest.fixture(scope="module")
def backend(
    label_studio: LiveStudio, client: StudioClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    directory = tmp_path_factory.mktemp("backend")
    with with_clothing(label_studio, client, directory, folder=FOLDER, tasks=TASKS, budget=BUDGET) as backend:
        yield backend


@pytest.fixture(scope="module")
def run(backend: Backend) -> str:
    """A finished run whose report is made."""
    made = backend.start()
    backend.wait(made)
    backend.await_report(made)
    return made


@pytest.fixture(scope="module")
def other(backend: Backend, run: str) -> str:
    """Another run to compare with."""
    made = backend.start(seed=1, dry_run=True)
    backend.wait(made)
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
    assert page.evaluate("document.getElementById('map').data.map(t => t.x.length)") == [TASKS, BUDGET, 0]
    learn_places(page, backend, run)
    picks = backend.server.picks(run)
    task = picks[2]
    page.mouse.move(*place_of(page, task))
    page.locator("#seen", has_text=f"Pick 3, task {task}").wait_for()
    picture = page.locator("#seen > img")
    picture.wait_for()
    await_on_page(page, "document.querySelector('#seen > img').naturalWidth > 0")
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
    await_on_page(page, "image => image.naturalWidth > 0", first.element_handle())
    page.wait_for_load_state("networkidle")
    page.screenshot(path=shots / "gallery.png")


@pytest.fixture
def bag(backend: Backend, run: str, client: StudioClient) -> Iterator[int]:
    """The second pick, labeled as a bag for the time of a test."""
    task = backend.server.picks(run)[1]
    made = client.annotate(task, [{**project.CONTROL, "type": "choices", "value": {"choices": ["Bag"]}}])
    yield task
    client.delete_annotation(made)


def test_map__colors_by_label_and_annotator_and_moves_nothing(
    backend: Backend, run: str, bag: int, client: StudioClient, page: Page, heard: list[str], shots: Path
) -> None:
    known = f"{backend.url}/usl/api/runs/{run}/labels"  # up to ten seconds old
    deadline = time.monotonic() + 60
    while str(bag) not in page.request.get(known).json()["labels"]:
        assert time.monotonic() < deadline, "the label was not read"
        time.sleep(0.5)
    annotator = annotator_names(client)[client.user_id()]
    page.goto(f"{backend.url}/usl/runs/{run}/map")
    drawn(page)
    page.locator("#map").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.locator("#map.zoomed").wait_for()
    places = "[...document.getElementById('map')._fullLayout.xaxis.range]"
    before = page.evaluate(places)
    for color, shown in (
        ("label", ["Bag", "no label"]),
        ("status", ["pick", "reserve", "labeled", "waiting"]),
        ("annotator", [annotator, "nobody"]),
        ("cluster", [f"pick {rank + 1}" for rank in range(BUDGET)]),
    ):
        page.locator(f"input[name=color][value={color}]:enabled").check()
        names = page.locator("#legend li span:not(.quiet)").all_inner_texts()
        assert names == shown
        assert page.evaluate(places) == before
        page.screenshot(path=shots / f"{color}.png")
    first = page.locator("#legend button").first
    first.press("Enter")
    assert first.get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="next pick").click()
    page.locator("#seen", has_text="Stands for").wait_for()
    page.evaluate("document.addEventListener('usl:lasso', event => { window.held = event.detail.tasks })")
    page.get_by_role("button", name="whole map").click()
    page.get_by_role("button", name="box").click()
    box = page.locator("#map").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5, steps=4)
    page.mouse.up()
    await_on_page(page, "window.held && window.held.length")
    assert len(set(page.evaluate("window.held"))) == TASKS
    page.get_by_role("button", name="clear selection").click()
    assert page.evaluate("window.held") == []


def test_gallery__a_picture_enlarges_and_the_keyboard_walks_on(
    backend: Backend, run: str, page: Page, heard: list[str], shots: Path
) -> None:
    page.goto(f"{backend.url}/usl/runs/{run}/gallery")
    picks = backend.server.picks(run)
    page.locator("#picks .enlarge").first.press("Enter")
    large = page.locator("#large[open]")
    large.get_by_role("link", name=f"task {picks[0]}").wait_for()
    page.keyboard.press("ArrowRight")
    large.get_by_role("link", name=f"task {picks[1]}").wait_for()
    await_on_page(page, "document.querySelector('#large img').naturalWidth > 0")
    page.screenshot(path=shots / "large.png")
    assert faults(page) == []
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.closest('[data-task]').dataset.task") == str(picks[1])


def faults(page: Page, *, rules: list[str] | None = None) -> list[object]:
    """What axe finds on the page: all rules of WCAG 2.2 AA and its own advice, or some rules only."""
    only = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": TAGS}
    options = {"runOnly": only, "rules": {} if rules else {"target-size": {"enabled": True}}}
    return [
        (fault["id"], fault["impact"], [node["html"][:200] for node in fault["nodes"][:3]])
        for fault in Axe().run(page, options=options).response["violations"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_pages__are_accessible_and_fit_every_screen(
    backend: Backend, run: str, other: str, page: Page, heard: list[str], shots: Path, name: str
) -> None:
    page.goto(backend.url + PAGES[name].format(run=run, other=other, project=backend.project))
    settled(page)
    found, over = {}, {}
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="light")
        found[width, "light"] = faults(page)
        over[width] = page.evaluate("Math.max(0, document.documentElement.scrollWidth - innerWidth)")
        page.emulate_media(color_scheme="dark")
        found[width, "dark"] = faults(page, rules=["color-contrast", "link-in-text-block"])
    heard[:] = [text for text in heard if "404" not in text or name != "error"]
    assert found == {key: [] for key in found}
    assert over == dict.fromkeys(over, 0)
    inside = page.locator(FOCUSABLE).evaluate_all("found => found.map(one => one.outerHTML.slice(0, 200))")
    reached = set()
    for _ in range(min(len(inside), 60) + 1):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML.slice(0, 200)"))
        assert page.evaluate(OUTLINED), "the focus is not seen"
    assert set(inside if len(inside) <= 60 else inside[:50]) <= reached


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
    assert page.evaluate("document.getElementById('map').data.map(t => t.x.length)") == [TASKS, BUDGET, 0]
    assert page.locator("#part-trust table").last.inner_text() == texts["trust"]
    assert page.locator("#part-why table").inner_text() == texts["why"]
    cards = page.locator("#picks .card").all_inner_texts()
    assert [int(re.search(r"task (\d+)", text)[1]) for text in cards] == backend.server.picks(run)  # type: ignore[index]
    assert page.evaluate("[...document.images].every(image => image.src.startsWith('data:'))")
    page.screenshot(path=shots / "file.png")
    assert faults(page) == []

"""A project's page beside two annotators in a real Label Studio: its numbers follow them, its buttons act."""

import time
from collections.abc import Callable
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from live_studio import LiveProject, LiveStudio, choice
from playwright.sync_api import Page, expect

from usl_backend.demo import dataset
from usl_backend.demo import project as demo_project
from usl_backend.demo.backend_server import BackendServer
from usl_backend.studio.client import StudioClient
from usl_backend.studio.tabs import title

WITHIN = 5.0
"""Seconds in which the page follows a label where the host is not busy."""
SLOW = 20_000
"""Milliseconds in which it does so on a machine that is busy with other tests."""
LONG = 120_000


def cells(page: Page, role: str) -> tuple[int, int]:
    """Labeled and all tasks of a role, as the page shows them."""
    labeled, total = page.locator(f'tr[data-role="{role}"] td.number').all_inner_texts()
    return int(labeled), int(total)


def test_project_page__two_annotators_and_every_button(
    label_studio: LiveStudio,
    make_project: Callable[..., LiveProject],
    second_annotator: StudioClient,
    backend: BackendServer,
    page: Page,
    heard: list[str],
    screenshots: Path,
    tmp_path: Path,
) -> None:
    project = make_project()
    client = project.client
    pictures = dataset.write_images(tmp_path / "pictures", side=56)[:70]
    tasks = demo_project.fill(client, project.id, pictures[:60])
    labels = dataset.load().labels
    names = ("cat", "dog", "owl")

    # The address of a project without a run; what is chosen by a dry run is published as it is.
    page.goto(f"{backend.url}/usl/")
    page.get_by_label("Project in Label Studio").fill(f"{label_studio.url}/projects/{project.id}/data")
    page.get_by_role("button", name="Show its labeling").click()
    expect(page.locator("[data-part=next]")).to_contain_text("Start a run")
    assert cells(page, "other") == (0, 60)
    page.get_by_label("Budget").fill("8")
    page.get_by_text("More options").click()
    page.get_by_label("Control set").fill("20")
    page.get_by_label("Reserve").fill("3")
    page.get_by_role("button", name="Dry run").click()
    publish = page.get_by_role("button", name="Publish this dry run")
    publish.wait_for(timeout=LONG)
    dry = backend.run(f"{project.id}-1")
    assert (dry["dry_run"], project.model_versions()) == (True, {})
    chosen = backend.picks(dry["id"])
    publish.click()
    expect(page.locator("[data-part=next]")).to_contain_text("Label 8 more picks.", timeout=LONG)
    assert backend.picks(dry["id"]) == chosen
    assert backend.run(dry["id"])["summary"]["verified"]["ok"]

    # The dry run has measured other budgets: the slider fills the field in.
    page.locator("#slider").fill("0")
    expect(page.get_by_label("Budget", exact=True)).to_have_value("1")
    expect(page.locator("#chosen")).to_contain_text("1 picks reach")
    page.get_by_label("Budget", exact=True).fill("")
    page.locator("h1").click()

    # Both annotators label; the page follows each without being touched, within five seconds; on a busy host
    # the second quickest of four counts.
    seen = []
    for turn in range(4):
        who = (client, second_annotator)[turn % 2]
        task = who.next_task(project.id)
        assert task is not None
        assert task["id"] == chosen[turn]
        who.annotate(task["id"], [choice(names[labels[tasks[task["id"]]] % 3])])
        begun = time.monotonic()
        expect(page.locator('tr[data-role="pick"] td.number').first).to_have_text(str(turn + 1), timeout=SLOW)
        seen.append(time.monotonic() - begun)
    assert sorted(seen)[1] < WITHIN, seen
    expect(page.locator("[data-part=annotators]")).to_contain_text("second@example.com")
    assert page.locator("[data-part=annotators] td.number").all_inner_texts() == ["2", "2"]
    shown = {
        row.locator("th").inner_text(): int(row.locator("td.number").inner_text())
        for row in page.locator("[data-part=classes] tbody tr").all()
    }
    expected = [names[labels[tasks[task]] % 3] for task in chosen[:4]]
    assert shown == {name: expected.count(name) for name in names}
    for task in chosen[4:]:
        client.annotate(task, [choice(names[labels[tasks[task]] % 3])])
    expect(page.locator("[data-part=next]")).to_contain_text("of the control set", timeout=SLOW)
    page.screenshot(path=screenshots / "labeled.png", full_page=True)

    # New tasks wait, and are queued.
    demo_project.fill(client, project.id, pictures)
    expect(page.locator("[data-part=queue]")).to_contain_text("10 tasks came after the run", timeout=LONG)
    page.get_by_role("button", name="Extend").click()
    expect(page.locator("[data-part=work]")).to_contain_text("10 new tasks were queued", timeout=LONG)
    expect(page.locator("[data-part=queue]")).not_to_contain_text("came after", timeout=LONG)

    page.get_by_role("button", name="Suggest").click()
    expect(page.locator("[data-part=work]")).to_contain_text("choices were filled in", timeout=LONG)

    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
        assert found.violations_count == 0, found.generate_report()
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_viewport_size({"width": 1280, "height": 800})

    # Rerun: a second run, and the first one says that it was replaced.
    page.get_by_role("button", name="Rerun").click()
    expect(page.locator("[data-part=queue]")).to_contain_text(f"run {project.id}-2", timeout=LONG)
    assert backend.run(f"{project.id}-2")["settings"] == backend.run(dry["id"])["settings"]
    page.goto(f"{backend.url}/usl/runs/{dry['id']}")
    expect(page.locator("main")).to_contain_text(f"run {project.id}-2 has replaced this run")
    assert page.get_by_text("the ordered tab").count() == 0
    page.goto(f"{backend.url}/usl/")
    assert page.get_by_text("in force").count() == 1

    # Reset only when it is confirmed.
    page.goto(f"{backend.url}/usl/projects/{project.id}")
    assert title(f"{project.id}-2") in {view["data"]["title"] for view in project.views()}
    page.get_by_label("to confirm").fill(str(project.id))
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("[data-part=work]")).to_contain_text("as it was before the first run", timeout=LONG)
    expect(page.locator("[data-part=next]")).to_contain_text("Start a run", timeout=LONG)
    assert project.model_versions() == {}
    assert title(f"{project.id}-2") not in {view["data"]["title"] for view in project.views()}
    assert cells(page, "other")[0] == 8

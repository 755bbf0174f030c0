"""Pin, exclude, more like this and a lasso by clicks in a real browser, against a real Label Studio."""

from collections.abc import Iterator

import pytest
import requests
from live_studio import LiveStudio
from playwright.sync_api import Page, expect
from report_backend import Backend, drawn, with_clothing

from usl_backend.studio.client import StudioClient

FOLDER = "steered"
TASKS, BUDGET = 120, 8


@pytest.fixture
def backend(
    label_studio: LiveStudio, client: StudioClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    directory = tmp_path_factory.mktemp("backend")
    with with_clothing(label_studio, client, directory, folder=FOLDER, tasks=TASKS, budget=BUDGET) as backend:
        yield backend


def test_steering__pin_exclude_more_like_this_and_lasso(
    backend: Backend, page: Page, heard: list[str], client: StudioClient
) -> None:
    first = backend.start(reserve=4)
    backend.wait(first)
    backend.await_report(first)
    picks = backend.server.picks(first)
    api = f"{backend.url}/usl/api/projects/{backend.project}"

    def held(kind: str) -> list[int]:
        return list(requests.get(f"{api}/{kind}", timeout=30).json()["tasks"])

    page.goto(f"{backend.url}/usl/runs/{first}/gallery")
    lowest = page.locator("#lowest figure").first
    task = int(lowest.get_attribute("data-task") or 0)
    status, undo = page.locator("#steer-status"), page.get_by_role("button", name="undo")

    # by keyboard, and taken back
    pin = lowest.get_by_role("button", name=f"Pin task {task}")
    pin.focus()
    page.keyboard.press("Enter")
    expect(pin).to_have_attribute("aria-pressed", "true")
    expect(status).to_contain_text(f"Task {task} is pinned")
    assert held("pins") == [task]
    undo.click()
    expect(pin).to_have_attribute("aria-pressed", "false")
    assert held("pins") == []
    pin.click()
    expect(pin).to_have_attribute("aria-pressed", "true")
    barred = page.locator(f"#picks figure[data-task='{picks[0]}']")
    barred.get_by_role("button", name=f"Exclude task {picks[0]}").click()
    expect(status).to_contain_text(f"Task {picks[0]} is excluded")
    page.reload()
    expect(pin).to_have_attribute("aria-pressed", "true")
    assert (held("pins"), held("exclusions")) == ([task], [picks[0]])

    # more like this: behind the picks, and out again
    page.locator(f"#picks figure[data-task='{picks[1]}']").get_by_role(
        "button", name="Queue more like"
    ).click()
    expect(status).to_contain_text("tasks are queued that are like task", timeout=60_000)
    near = held("queue")
    assert 10 < len(near) <= 20
    assert not set(near) & {*picks}
    undo.click()
    expect(status).to_contain_text("taken out of the queue", timeout=60_000)
    assert held("queue") == []

    # the next run goes by it
    second = backend.start(reserve=4)
    settings = backend.wait(second)["settings"]
    assert (settings["pin"], settings["exclude"]) == ([str(task)], [str(picks[0])])
    queued = backend.server.picks(second)
    assert queued[0] == task
    assert picks[0] not in queued
    backend.await_report(second)

    # a lasso on the map, drawn with the pointer
    page.goto(f"{backend.url}/usl/runs/{second}/map")
    drawn(page)
    page.get_by_role("button", name="lasso").click()
    box = page.locator("#map").bounding_box()
    assert box is not None
    left, top, right, bottom = (
        box["x"] + 10, box["y"] + 10, box["x"] + box["width"] - 10, box["y"] + box["height"] - 10,
    )  # fmt: skip
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(x, y, steps=8)
    page.mouse.up()
    offer = page.locator("#steer-choice button")
    expect(offer).to_contain_text("queue these")
    number = int(offer.inner_text().split()[2])
    assert number > BUDGET
    offer.click()
    expect(status).to_contain_text("behind the picks", timeout=60_000)
    asked = held("queue")
    assert len(asked) >= number - BUDGET - 1
    assert not set(asked) & {*queued, picks[0]}
    served = client.next_task(backend.project)
    assert served is not None
    assert served["id"] == task

    # the panel has the same buttons, whatever it shows
    page.get_by_role("button", name="next pick").click()
    expect(page.get_by_role("button", name=f"Pin task {task}")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="next pick").click()
    expect(page.get_by_role("button", name=f"Pin task {queued[1]}")).to_have_attribute(
        "aria-pressed", "false"
    )

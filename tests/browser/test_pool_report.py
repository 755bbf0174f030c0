"""The report of a folder, as one file in a real browser without any server, on a phone's screen."""

from pathlib import Path

import pytest
from playwright.sync_api import Page
from report_backend import drawn

from usl_backend.cli import main
from usl_backend.demo import dataset

NAME = "#1 50%25.png"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The report of two pictures, of which one is picked."""
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "data"))
    (tmp_path / "odd").mkdir()
    for place, path in enumerate(dataset.write_images(tmp_path / "all")[:2]):
        path.rename(tmp_path / "odd" / (NAME if place == 0 else "b.png"))
    file = tmp_path / "report.html"
    for arguments in (
        ["select", str(tmp_path / "odd"), "--budget", "1"],
        ["report", "odd-1", "-o", str(file)],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    return file


def test_report__a_task_is_shown_again_after_it_was_hidden(
    written: Path, page: Page, heard: list[str]
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(written.as_uri())
    drawn(page)
    aside = page.locator("aside.shown")
    page.click("#after")
    aside.wait_for()
    assert f"Pick 1, {NAME}" in page.inner_text("#seen")
    page.click("#unshow")
    aside.wait_for(state="detached")
    page.click("#after")
    aside.wait_for(timeout=3_000)

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import find_chromium
from live_studio import LiveStudio
from playwright.sync_api import Page, sync_playwright
from studio_ui import StudioUI

ARTIFACTS = Path(__file__).parent.parent.parent / "artifacts" / "browser"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=find_chromium(),
            headless=True,
            args=FLAGS,
            viewport={"width": 1280, "height": 800},
        )
        context.set_default_timeout(30_000)
        yield context.pages[0]
        context.close()


@pytest.fixture
def ui(page: Page, label_studio: LiveStudio, request: pytest.FixtureRequest) -> StudioUI:
    """Label Studio's login page; screenshots go to artifacts/browser/<test>."""
    screenshots = ARTIFACTS / request.node.name
    shutil.rmtree(screenshots, ignore_errors=True)
    screenshots.mkdir(parents=True)
    return StudioUI(page, label_studio.url, screenshots)


@pytest.fixture
def heard(page: Page) -> Iterator[list[str]]:
    """What the browser complained of, and where it asked outside of this machine."""
    found: list[str] = []
    page.on("console", lambda told: found.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            None
            if re.match(r"http://127\.0\.0\.1:|data:|blob:|file:///", asked.url)
            else found.append(f"request to {asked.url}")
        ),
    )
    yield found
    assert found == []

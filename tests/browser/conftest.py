import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chromium import find_chromium
from live_studio import LiveStudio
from playwright.sync_api import Page, sync_playwright
from studio_ui import StudioUI

from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.studio_server import free_port

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
def browse(tmp_path: Path) -> Iterator[Callable[[str], Page]]:
    """Opens a browser with a profile of its own, as another person has: `browse("second")`."""
    with sync_playwright() as playwright:
        opened = []

        def browse(profile: str) -> Page:
            context = playwright.chromium.launch_persistent_context(
                tmp_path / profile,
                executable_path=find_chromium(),
                headless=True,
                args=FLAGS,
                viewport={"width": 1280, "height": 800},
            )
            opened.append(context)
            context.set_default_timeout(30_000)
            return context.pages[0]

        yield browse
        for context in opened:
            context.close()


@pytest.fixture
def page(browse: Callable[[str], Page]) -> Page:
    return browse("profile")


@pytest.fixture
def backend(label_studio: LiveStudio, tmp_path: Path) -> Iterator[BackendServer]:
    """A backend at work for the Label Studio; some files have one with a project."""
    directory = tmp_path / "backend"
    directory.mkdir()
    with BackendServer(
        directory, studio_url=label_studio.url, api_key=label_studio.token, port=free_port()
    ) as server:
        yield server


@pytest.fixture
def screenshots(request: pytest.FixtureRequest) -> Path:
    """The test's own folder of artifacts/browser, empty."""
    screenshots = ARTIFACTS / request.node.name
    shutil.rmtree(screenshots, ignore_errors=True)
    screenshots.mkdir(parents=True)
    return screenshots


@pytest.fixture
def ui(page: Page, label_studio: LiveStudio, screenshots: Path) -> StudioUI:
    """Label Studio's login page; screenshots go to artifacts/browser/<test>."""
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

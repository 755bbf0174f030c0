"""Pictures of every page at three widths, for the documents: the demo's project after its annotators and suggestions.

Runs `usl-backend demo --once` in a directory of its own, starts its two servers again, and writes one WebP file per
page and width. The tests that walk all pages take their list from here.

    python benchmarks/screenshots.py --into docs/images/pages
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import requests
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.place import USERNAME, DemoPlace
from usl_backend.demo.studio_server import LabelStudioServer

PAGES: Final = {
    "runs": "/usl/",
    "project": "/usl/projects/{project}",
    "run": "/usl/runs/{run}",
    "trust": "/usl/runs/{run}/trust",
    "map": "/usl/runs/{run}/map",
    "gallery": "/usl/runs/{run}/gallery",
    "why": "/usl/runs/{run}/why",
    "labels": "/usl/runs/{run}/doubts",
    "compare": "/usl/compare?a={run}&b={other}",
    "error": "/usl/runs/{project}-999",
}
"""Every page of the backend by name; a new page is one more line."""
SIZES: Final = ((1400, 900), (768, 1024), (390, 844))
"""Windows in pixels: a desk, a tablet, a phone."""
_QUALITY: Final = 60
_MOST: Final = 3_000_000
"""Bytes that all pictures may take."""


def settled(page: Page) -> None:
    """Wait until a page shows what it has: the map its points, the gallery its pictures."""
    if page.locator("#map").count():
        page.locator("#map[data-state=drawn]").wait_for(timeout=60_000)
    page.wait_for_load_state("networkidle")


def another_run(backend: BackendServer, project: int) -> str:
    """Make a dry run of the project with another seed; return its id."""
    body = {"project": project, "seed": 1, "dry_run": True}
    run = str(requests.post(f"{backend.url}/usl/api/runs", json=body, timeout=60).json()["id"])
    until = time.monotonic() + 600
    while backend.run(run)["state"] != "done":
        assert time.monotonic() < until, f"run {run} is {backend.run(run)['state']}"
        time.sleep(1)
    return run


def await_report(address: str, run: str, *, seconds: float = 600) -> None:
    """Have the report of a run made, and wait for it."""
    until = time.monotonic() + seconds
    while requests.get(f"{address}/usl/api/runs/{run}/trust", timeout=30).status_code != 200:
        assert time.monotonic() < until, "the report was not made"
        time.sleep(1)


def pictures(page: Page, address: str, into: Path, **names: object) -> int:
    """Write a picture of every page in every size; return the bytes."""
    written = 0
    for name, path in PAGES.items():
        page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})
        page.goto(address + path.format(**names))
        settled(page)
        if name == "map":
            page.locator("input[name=color][value=label]:enabled").check()
            page.get_by_role("button", name="next pick").click()
            page.locator("#seen img").first.wait_for()
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(1500)
            with Image.open(io.BytesIO(page.screenshot())) as shot:
                shot.convert("RGB").save(into / f"{name}-{width}.webp", quality=_QUALITY, method=6)
            written += (into / f"{name}-{width}.webp").stat().st_size
    return written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, default=Path("docs/images/pages"))
    parser.add_argument(
        "--directory", type=Path, help="the demo's directory, kept; a temporary one by default"
    )
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        directory = arguments.directory or Path(name) / "demo"
        if not directory.exists():
            demo = [sys.executable, "-m", "usl_backend", "demo", "--once", "--data-directory", str(directory)]
            subprocess.run(demo, check=True)
        place = DemoPlace(directory)
        memory = place.reserve_ports(None, None)
        studio = LabelStudioServer(
            place.studio_directory,
            port=memory.studio_port,
            username=USERNAME,
            password=memory.password,
            token=memory.token,
        )
        with studio:
            backend = BackendServer(
                place.backend_directory,
                studio_url=studio.url,
                api_key=memory.token,
                port=memory.backend_port,
            )
            with backend:
                assert memory.project is not None
                run = next(str(one["id"]) for one in backend.runs(memory.project) if not one["dry_run"])
                other = another_run(backend, memory.project)
                for one in (run, other):
                    await_report(backend.url, one)
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
                )
                page = browser.new_page(viewport={"width": 1400, "height": 900})
                written = pictures(
                    page, backend.url, arguments.into, run=run, other=other, project=memory.project
                )
                browser.close()
    print(f"{len(PAGES) * len(SIZES)} pictures, {written / 1e6:.1f} MB, in {arguments.into}")
    if written > _MOST:
        raise SystemExit(f"they may take {_MOST / 1e6:.0f} MB; lower the quality")


if __name__ == "__main__":
    main()

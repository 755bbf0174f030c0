"""The report's pages of a large run in a real browser: first content, map drawn, bytes.

A run of so many instances is made in a data directory of its own: rows around 200 centers, chosen from by USL, its
report made as the server makes it. Then headless chromium opens each page on a fresh profile; the median of the
rounds counts. Bytes are what came over the wire but Plotly's script and thumbnails.

    python benchmarks/report_page.py --instances 60000 --json report_page.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import requests
from playwright.sync_api import Browser, sync_playwright

from usl_backend.demo.studio_server import free_port
from usl_backend.instances import Instance, Pool, Queue
from usl_backend.report import build
from usl_backend.runs import Run, RunStore
from usl_backend.runs.inventory import Inventory
from usl_backend.runs.published import Published
from usl_backend.runs.summary import ProjectNote, Summary
from usl_backend.selection import USL
from usl_backend.settings import RunSettings

PARTS = ("trust", "map", "gallery", "why")
LIMITS = {"first_content_s": 1.0, "map_drawn_s": 5.0, "own_megabytes": 5.0}


def make_run(directory: Path, instances: int, budget: int) -> tuple[Run, dict[str, float]]:
    """Make a finished run with its report; return the seconds it took."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(200, 64))
    rows = centers[rng.integers(200, size=instances)] + rng.normal(size=(instances, 64)) * 0.7
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    store = RunStore(directory)
    settings = RunSettings.resolve(explicit={"budget": budget}, environ={})
    run = store.create(project=1, settings=settings.to_json())
    store.claim(run.id)
    files = store.files(run.id)
    ids = np.arange(1, instances + 1)
    files.write_instances(
        [Instance(int(i), "image", f"/data/upload/1/{i:06d}.jpg") for i in ids], Inventory()
    )
    files.write_pool(Pool(ids, rows), ["00" * 32] * instances)
    begun = time.perf_counter()
    selection = USL().select(files.read_pool()[0].embeddings, budget, rng=0)
    chosen = time.perf_counter()
    files.write_selection(selection)
    files.write_published(Published(Queue.of(ids[selection.indices].tolist())))
    store.finish(run.id, Summary(picks=budget, project=ProjectNote(title="Benchmark")))
    run = store.get(run.id)
    steps = build(run, files).seconds
    print(
        "select {:.1f} s; report: {}".format(
            chosen - begun, ", ".join(f"{k} {v:.1f} s" for k, v in steps.items())
        )
    )
    store.close()
    return run, {"select": round(chosen - begun, 3), **steps}


def kept_run(directory: Path, instances: int, budget: int) -> tuple[Run, dict[str, float]]:
    """Return the run that an earlier call left in the directory, without times, else make one."""
    directory.mkdir(exist_ok=True)
    store = RunStore(directory)
    known = store.list(limit=1)
    store.close()
    return (known[0], {}) if known else make_run(directory, instances, budget)


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Run the real server on that data directory."""
    port = free_port()
    environment = {**os.environ, "MODEL_DIR": str(directory), "LABEL_STUDIO_API_KEY": "x" * 40}
    command = [sys.executable, "-m", "usl_backend", "serve", "--host", "127.0.0.1", "--port", str(port)]
    with (directory / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            until = time.monotonic() + 120
            while True:
                try:
                    if requests.get(f"{address}/livez", timeout=5).ok:
                        break
                except requests.ConnectionError:
                    if time.monotonic() > until:
                        raise
                time.sleep(0.2)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def opened(browser: Browser, address: str, part: str) -> dict[str, float]:
    """Open one page on a fresh profile."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    # there is no Label Studio to fetch pictures from
    page.route("**/thumbnail/**", lambda route: route.abort())
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    addresses: dict[str, str] = {}
    sizes: dict[str, float] = {}
    network.on(
        "Network.responseReceived",
        lambda told: addresses.update({told["requestId"]: told["response"]["url"]}),
    )
    network.on(
        "Network.loadingFinished", lambda told: sizes.update({told["requestId"]: told["encodedDataLength"]})
    )
    begun = time.perf_counter()
    page.goto(f"{address}/{part}", wait_until="commit")
    if part == "map":
        page.locator("#map[data-state=drawn]").wait_for(timeout=120_000)
        drawn = time.perf_counter() - begun
        points = page.evaluate("document.getElementById('map').data[0].x.length")
    else:
        page.wait_for_load_state("load")
        drawn, points = 0.0, 0
    seen = "performance.getEntriesByName('first-contentful-paint')"
    while not page.evaluate(f"{seen}.length"):  # wait_for_function would need eval, which the pages forbid
        page.wait_for_timeout(50)
    paint = page.evaluate(f"{seen}[0].startTime")
    page.wait_for_load_state("networkidle")
    context.close()
    own = [
        size
        for request, size in sizes.items()
        if "/plotly-" not in addresses.get(request, "") and "/thumbnail/" not in addresses.get(request, "")
    ]
    return {
        "first_content_s": paint / 1000,
        "map_drawn_s": drawn,
        "points": points,
        "own_megabytes": sum(own) / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=60_000)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where the run is kept, and found again")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = arguments.directory or Path(name)
        run, seconds = kept_run(directory, arguments.instances, arguments.budget)
        found: dict[str, dict[str, Any]] = {}
        with served(directory) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            print(f"{'page':8} {'first content':>14} {'map drawn':>10} {'own MB':>8} {'points':>8}")
            for part in ("", *PARTS):
                rounds = [
                    opened(browser, f"{address}/usl/runs/{run.id}", part) for _ in range(arguments.rounds)
                ]
                figures = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
                found[part or "run"] = figures
                print(
                    f"{part or 'run':8} {figures['first_content_s']:12.2f} s {figures['map_drawn_s']:8.2f} s "
                    f"{figures['own_megabytes']:8.2f} {figures['points']:8.0f}"
                )
            browser.close()
    worst = {key: max(page[key] for page in found.values()) for key in LIMITS}
    load = os.getloadavg()[0]
    told = {
        "instances": arguments.instances,
        "rounds": arguments.rounds,
        "cores": os.cpu_count(),
        "load_average": load,
        "seconds": seconds,
        "pages": found,
        "worst": worst,
        "within": {key: worst[key] <= limit for key, limit in LIMITS.items()},
    }
    print(
        f"load average {load:.1f} on {os.cpu_count()} cores; worst: {worst}; within the limits: {told['within']}"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

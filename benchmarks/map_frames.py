"""How smoothly the map of a large run moves: frames a second while it is dragged, in headless chromium.

A run of so many tasks is made in a data directory, as report_page.py makes it, and kept there for another version of
the package. The pointer goes down on the map and moves once in every frame, in circles, for some seconds; a frame ends
when the browser asks for the next one. Without a GPU, chromium draws with its software renderer.

    python benchmarks/map_frames.py --instances 100000 --directory /var/tmp/map --json map_frames.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright
from report_page import kept_run, served

MOVES = """seconds => new Promise(resolve => {
  const map = document.getElementById('map'), box = map.getBoundingClientRect();
  const middle = [box.x + box.width / 2, box.y + box.height / 2], times = [];
  function frame(now) {
    times.push(now);
    if (now - times[0] > 1000 * seconds) { resolve(times.slice(1).map((at, i) => at - times[i])); return; }
    const turn = (now - times[0]) / 400;
    const at = { clientX: middle[0] + 90 * Math.sin(turn), clientY: middle[1] + 90 * Math.cos(turn), buttons: 1,
                 bubbles: true, cancelable: true };
    const under = document.elementFromPoint(at.clientX, at.clientY);
    under.dispatchEvent(new PointerEvent('pointermove', { ...at, pointerId: 1 }));
    under.dispatchEvent(new MouseEvent('mousemove', at));
    requestAnimationFrame(frame);
  }
  requestAnimationFrame(frame);
})"""
PLACE = "[...document.getElementById('map')._fullLayout.xaxis.range]"
COLORS = "[...document.querySelectorAll('input[name=color]')].map(input => input.value)"


def dragged(page: Page, seconds: float) -> list[float]:
    """Return the milliseconds of each frame while the map is dragged."""
    before = page.evaluate(PLACE)
    box = page.locator("#map").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 20, box["y"] + box["height"] / 2)
    frames: list[float] = page.evaluate(MOVES, seconds)
    page.mouse.up()
    until = time.monotonic() + 30
    while page.evaluate(PLACE) == before:
        assert time.monotonic() < until, "the map did not move"
        page.wait_for_timeout(100)
    return frames


def measured(page: Page, address: str, seconds: float) -> dict[str, Any]:
    """Open the map, drag it in every color, and return times."""
    # there is no Label Studio to fetch pictures from
    page.route("**/thumbnail/**", lambda route: route.abort())
    begun = time.perf_counter()
    page.goto(address)
    page.locator("#map[data-state=drawn]").wait_for(timeout=180_000)
    drawn = time.perf_counter() - begun
    found: dict[str, Any] = {}
    for color in page.evaluate(COLORS):
        button = page.locator(f"input[name=color][value={color}]")
        if button.is_disabled():
            continue
        button.check()
        page.wait_for_timeout(1000)
        frames = sorted(dragged(page, seconds))
        found[color] = {
            "frames_a_second": 1000 * len(frames) / sum(frames),
            "median_ms": statistics.median(frames),
            "p95_ms": frames[int(0.95 * (len(frames) - 1))],
        }
    points = page.evaluate("document.getElementById('map').data[0].x.length")
    return {"drawn_s": drawn, "points": points, "colors": found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where the run is kept, and found again")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        directory = arguments.directory or Path(name)
        run, _ = kept_run(directory, arguments.instances, arguments.budget)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        rounds = []
        with served(directory) as address:
            for _ in range(arguments.rounds):
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                rounds.append(measured(page, f"{address}/usl/runs/{run.id}/map", arguments.seconds))
                page.close()
        browser.close()
    colors = {
        color: {
            key: statistics.median(one["colors"][color][key] for one in rounds)
            for key in rounds[0]["colors"][color]
        }
        for color in rounds[0]["colors"]
    }
    told = {
        "points": rounds[0]["points"],
        "rounds": arguments.rounds,
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "drawn_s": statistics.median(one["drawn_s"] for one in rounds),
        "colors": colors,
    }
    print(f"{told['points']:,} points, drawn after {told['drawn_s']:.1f} s; {told['cores']} cores, ", end="")
    print(f"load average {told['load_average']:.1f}")
    print(f"{'color':12} {'frames a second':>16} {'median ms':>10} {'95 % ms':>8}")
    for color, figures in colors.items():
        print(
            f"{color:12} {figures['frames_a_second']:16.1f} {figures['median_ms']:10.1f} {figures['p95_ms']:8.1f}"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The server beside a running selection: how long Start Training and everybody else wait, and what memory does.

A real Label Studio, a real server, one project's run embedding real pictures (its process at nice 10). First another
project's Start Training is accepted again and again, each cancelled before the next, while nobody else asks; what
Label Studio itself adds is shown apart. Then everybody comes at once: 100 ANNOTATION_* events a second, each over a
connection of its own as Label Studio sends them; 20 open pages of a finished run's report and of the running one,
polled as their scripts do; and, after 20 s (a third of a run that is shorter than a minute) and every two minutes from
then on, 200 Start Trainings at the same moment for 20 projects. All on the loopback. Whoever asks is a process of its
own.

    python benchmarks/load.py --json load.json                  # 60 s of load: latencies, one run per project
    python benchmarks/load.py --seconds 370 --json load.json    # and the server's memory from minute 2 to minute 6
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from load_stand import CONFIG, ask, project, stand, until

from usl_backend.studio import backend
from usl_backend.studio.client import StudioClient

START = 100.0
HEALTH_P99 = 100.0
SLOWEST = 1000.0
"""Milliseconds."""
GROWTH = 0.02
"""Share of the server's memory at minute 2 that it may have gained at minute 6."""
EVENTS = 100
HEALTH = 20
"""Requests a second."""
PAGES = 20
STARTS = 200
STARTED_PROJECTS = 20
FIRST_START, START_EVERY = 20, 120
"""Seconds. In a long run two bursts fall between minute 2 and minute 6, where memory is watched."""


@dataclass
class Waits:
    """Milliseconds of each answer to one kind of caller, and the statuses that were not expected."""

    milliseconds: list[float] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return the milliseconds that this share of the answers does not exceed."""
        ordered = sorted(self.milliseconds)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


Answers = dict[str, Waits]


def noted(waits: Waits, expected: tuple[int, ...], call: Callable[[], tuple[float, int, Any, Any]]) -> Any:
    """Make a call and note how long it took; return its result, None where nobody answered."""
    try:
        told = call()
    except OSError as error:
        waits.odd.append(f"{type(error).__name__}: {error}")
        return None
    waits.milliseconds.append(told[0])
    if told[1] not in expected:
        waits.odd.append(f"status {told[1]}")
    return told


def paced(rate: float, until_: float, call: Callable[[], object], *, hands: int) -> None:
    """Call `rate` times a second until a moment, by so many threads; a slow answer delays only its own thread."""

    def work(hand: int) -> None:
        due = time.monotonic() + hand / rate
        while due < until_:
            time.sleep(max(0.0, due - time.monotonic()))
            call()
            due += hands / rate

    threads = [threading.Thread(target=work, args=(hand,)) for hand in range(hands)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def event(number: int, project_id: int) -> bytes:
    """Make an annotation's webhook as Label Studio sends it, a few kilobytes."""
    action = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")[number % 3]
    result = [
        {
            "from_name": "choice",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": ["one"]},
            "id": f"r{i}",
        }
        for i in range(8)
    ]
    return json.dumps(
        {
            "action": action,
            "project": {
                "id": project_id,
                "title": "busy",
                "label_config": CONFIG,
                "created_at": "2026-01-01T00:00:00Z",
            },
            "task": {"id": number, "data": {"image": f"/data/upload/{project_id}/{number}.png"}, "meta": {}},
            "annotation": {"id": number, "result": result, "completed_by": 1, "lead_time": 2.5},
        }
    ).encode()


def health(address: str, seconds: float) -> Answers:
    """Ask /health as Label Studio does before nearly everything."""
    waits = Waits()
    paced(
        HEALTH,
        time.monotonic() + seconds,
        lambda: noted(waits, (200,), lambda: ask(address, "GET", "/health")),
        hands=4,
    )
    return {"/health": waits}


def events(address: str, seconds: float, project_id: int) -> Answers:
    """Send annotation events."""
    waits = Waits()
    bodies = [event(number, project_id) for number in range(300)]
    sent = iter(range(10**9))

    def send() -> None:
        body = bodies[next(sent) % len(bodies)]
        noted(waits, (200,), lambda: ask(address, "POST", "/webhook", body))

    paced(EVENTS, time.monotonic() + seconds, send, hands=16)
    return {"annotation events": waits}


def pages(address: str, seconds: float, done: str, running: str) -> Answers:
    """Hold pages open: half of them the report of a finished run, half the running one; all are polled."""
    opened, polled = Waits(), Waits()
    end = time.monotonic() + seconds
    parts = [
        f"/usl/runs/{done}/trust",
        f"/usl/runs/{done}/gallery",
        f"/usl/runs/{done}/why",
        f"/usl/runs/{done}/map",
        f"/usl/api/runs/{done}/map",
    ]

    def hold(number: int) -> None:
        time.sleep(number * 0.1)
        page = parts[number % len(parts)] if number % 2 else f"/usl/runs/{running}"
        noted(opened, (200,), lambda: ask(address, "GET", page, headers={"Accept": "text/html"}))
        tag = {"If-None-Match": ""}
        while time.monotonic() < end:
            told = noted(
                polled, (200, 304), lambda: ask(address, "GET", f"/usl/api/runs/{running}", headers=tag)
            )
            tag["If-None-Match"] = told[2].headers.get("ETag", "") if told else ""
            time.sleep(2)

    with ThreadPoolExecutor(PAGES) as hands:
        list(hands.map(hold, range(PAGES)))
    return {"pages opened": opened, "pages polled": polled}


def starts(address: str, seconds: float, bodies: list[bytes]) -> Answers:
    """Press Start Training everywhere at the same moment, and again: the memory of a first burst is no growth."""
    waits = Waits()
    together = threading.Barrier(STARTS)

    def press(number: int) -> None:
        together.wait()
        body = bodies[number % len(bodies)]
        noted(waits, (202, 409), lambda: ask(address, "POST", "/webhook", body))

    began, moment = time.monotonic(), min(FIRST_START, seconds / 3)
    while moment < seconds:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        with ThreadPoolExecutor(STARTS) as hands:
            list(hands.map(press, range(STARTS)))
        moment += START_EVERY
    return {"Start Trainings": waits}


def memory(process: int) -> int:
    """Return the resident bytes of a process that it shares with no other."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{process}/status has no RssAnon")


def _in_process(results: Any, caller: Callable[..., Answers], arguments: tuple[Any, ...]) -> None:
    """Run a caller in a process of its own."""
    results.put(caller(*arguments))


@contextmanager
def sampled(process: int) -> Iterator[list[tuple[float, int]]]:
    """Sample the memory twice a second while the block lasts: (seconds since the start, bytes)."""
    samples: list[tuple[float, int]] = []
    over = threading.Event()
    began = time.monotonic()

    def look() -> None:
        while not over.wait(0.5):
            samples.append((time.monotonic() - began, memory(process)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def growth(samples: list[tuple[float, int]]) -> float | None:
    """Return the share by which memory grew from minute 2 to minute 6; None where it was not watched so long."""

    def at(second: float) -> float:
        near = sorted(size for when, size in samples if abs(when - second) <= 5)
        return float(near[len(near) // 2])

    return None if samples[-1][0] < 360 else at(360) / at(120) - 1


def listening(address: str) -> int:
    """Find the process that listens on the server's port."""
    port = f"{int(address.rpartition(':')[2]):04X}"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    sockets = {f"socket:[{line.split()[9]}]" for line in lines if line.split()[1].endswith(":" + port)}
    for process in (path for path in Path("/proc").iterdir() if path.name.isdecimal()):
        try:
            if any(str(link.readlink()) in sockets for link in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue
    raise RuntimeError(f"nobody listens on {address}")


def alone(client: StudioClient, address: str, names: list[str], rounds: int) -> tuple[Answers, float]:
    """Press Start Training while nobody else asks, each run cancelled before the next; then once by Label Studio.

    Returns the answers, and the milliseconds of the last.
    """
    pressed = project(client, address, "pressed alone", names[:10])
    start = json.dumps({"action": "START_TRAINING", "project": pressed}).encode()
    key = client.project(pressed["id"]).key
    setup = json.dumps({"project": key, "schema": CONFIG, "extra_params": '{"budget": 5}'}).encode()
    answers: Answers = {}

    def timed(name: str, expected: int, method: str, path: str, body: bytes | None = None) -> None:
        noted(answers.setdefault(name, Waits()), (expected,), lambda: ask(address, method, path, body))

    def cancel() -> None:
        run = json.loads(ask(address, "GET", f"/usl/api/runs?project={pressed['id']}")[3])["runs"][0]["id"]
        timed("cancel", 200, "POST", f"/usl/api/runs/{run}/cancel")

    for _ in range(rounds):
        timed("/health, alone", 200, "GET", "/health")
        timed("/setup", 200, "POST", "/setup", setup)
        timed("Start Training", 202, "POST", "/webhook", start)
        timed("second Start Training", 409, "POST", "/webhook", start)
        cancel()
    began = time.perf_counter()
    backend.start_training(client, pressed["id"], address)
    by_studio = 1000 * (time.perf_counter() - began)
    cancel()
    return answers, by_studio


def measure(
    client: StudioClient, address: str, names: list[str], rounds: int, seconds: float
) -> tuple[Answers, dict[str, Any]]:
    """Prepare a finished and a running run, press Start Training alone, then let everybody in."""

    def told(path: str) -> dict[str, Any]:
        return dict(json.loads(ask(address, "GET", path)[3]))

    def run_of(project_id: int) -> dict[str, Any]:
        return dict(told(f"/usl/api/runs?project={project_id}")["runs"][0])

    finished = project(client, address, "finished", names[:1200])
    backend.start_training(client, finished["id"], address)
    until(lambda: run_of(finished["id"])["state"] == "done")
    done = run_of(finished["id"])["id"]
    until(lambda: ask(address, "GET", f"/usl/api/runs/{done}/map")[1] == 200)
    busy = project(client, address, "computing", names)
    body = json.dumps({"project": busy["id"], "budget": 20, "image_size": 384}).encode()
    running = json.loads(ask(address, "POST", "/usl/api/runs", body)[3])["id"]
    until(lambda: bool(told(f"/usl/api/runs/{running}")["done"]))
    others = [project(client, address, f"pressed {n}", names[:20]) for n in range(STARTED_PROJECTS)]
    bodies = [json.dumps({"action": "START_TRAINING", "project": other}).encode() for other in others]

    answers, by_studio = alone(client, address, names, rounds)
    callers: list[tuple[Callable[..., Answers], tuple[Any, ...]]] = [
        (health, (address, seconds)),
        (events, (address, seconds, busy["id"])),
        (pages, (address, seconds, done, running)),
        (starts, (address, seconds, bodies)),
    ]
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    with sampled(listening(address)) as samples:
        processes = [spawn.Process(target=_in_process, args=(results, *caller)) for caller in callers]
        for process in processes:
            process.start()
        for _ in processes:
            answers |= results.get(timeout=seconds + 300)
        for process in processes:
            process.join()
    runs = {other["id"]: len(told(f"/usl/api/runs?project={other['id']}")["runs"]) for other in others}
    state = told(f"/usl/api/runs/{running}")["state"]
    figures = {
        "start_training_by_label_studio_ms": by_studio,
        "runs_per_started_project": sorted(set(runs.values())),
        "selection": state,
        "memory": samples[:: max(1, len(samples) // 200)],
        "memory_growth": growth(samples),
        "load_average": os.getloadavg(),
    }
    for run in (
        told("/usl/api/runs?state=queued&limit=1000")["runs"] + told("/usl/api/runs?state=running")["runs"]
    ):
        ask(address, "POST", f"/usl/api/runs/{run['id']}/cancel")
    return answers, figures


def verdict(answers: Answers, figures: dict[str, Any]) -> list[str]:
    """List every bar that was missed, in words."""
    slowest = max(waits.percentile(1) for waits in answers.values())
    start = max(answers[name].percentile(1) for name in ("Start Training", "second Start Training"))
    p99 = answers["/health"].percentile(0.99)
    missed = []
    if start > START:
        missed.append(f"a Start Training alone took {start:.0f} ms, above {START:.0f} ms")
    if p99 > HEALTH_P99:
        missed.append(f"/health p99 is {p99:.0f} ms, above {HEALTH_P99:.0f} ms")
    if slowest > SLOWEST:
        missed.append(f"the slowest answer took {slowest:.0f} ms, above {SLOWEST:.0f} ms")
    missed += [
        f"{name}: {waits.odd[0]} ({len(waits.odd)} times)" for name, waits in answers.items() if waits.odd
    ]
    if figures["runs_per_started_project"] != [1]:
        missed.append(f"runs per project: {figures['runs_per_started_project']}")
    if figures["selection"] != "running":
        missed.append(f"the selection was {figures['selection']} before the end; give more --pictures")
    if figures["memory_growth"] is not None and figures["memory_growth"] > GROWTH:
        missed.append(f"memory grew by {100 * figures['memory_growth']:.1f} %")
    return missed


def main() -> int:
    """Measure and print; 1 where a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="Start Trainings while nobody else asks")
    parser.add_argument(
        "--seconds", type=float, default=60, help="370 and more also tell the growth of memory"
    )
    parser.add_argument(
        "--pictures", type=int, default=12_000, help="tasks of the run that computes meanwhile"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    with stand(arguments.pictures, sides=range(28, 400, 4)) as (client, address, names):
        answers, figures = measure(client, address, names, arguments.rounds, arguments.seconds)
    print(f"{'answer':<32}{'count':>8}{'median ms':>12}{'p99 ms':>10}{'slowest ms':>12}")
    for name, waits in answers.items():
        cells = [waits.percentile(share) for share in (0.5, 0.99, 1)]
        print(f"{name:<32}{len(waits.milliseconds):>8}{cells[0]:>12.1f}{cells[1]:>10.1f}{cells[2]:>12.1f}")
    print(f"Start Training by Label Studio: {figures['start_training_by_label_studio_ms']:.0f} ms")
    if figures["memory_growth"] is not None:
        print(f"memory from minute 2 to minute 6: {100 * figures['memory_growth']:+.2f} %")
    missed = verdict(answers, figures)
    print(
        "; ".join(missed) if missed else "every bar holds", f"(load average {figures['load_average'][0]:.1f})"
    )
    if arguments.json is not None:
        told = {"machine": platform.platform(), "cores": os.cpu_count(), **figures}
        told["answers"] = {name: asdict(waits) for name, waits in answers.items()}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

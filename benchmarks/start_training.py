"""How long Label Studio's user waits for Start Training while another project's run is computing; limit 100 ms.

A real Label Studio and a real server. One project's run embeds real pictures; meanwhile another project's Start
Training is accepted again and again, each cancelled before the next. The request is the one Label Studio makes,
sent from outside both processes; what Label Studio itself adds is shown apart.

    python benchmarks/start_training.py --json start_training.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from usl_backend.demo.dataset import write_images
from usl_backend.demo.studio_server import LabelStudioServer, free_port
from usl_backend.studio import backend
from usl_backend.studio.client import StudioClient

LIMIT = 100.0
"""Milliseconds."""
TOKEN = "0123456789abcdef0123456789abcdef01234567"
LOGIN = ("usl", "benchmark-password")
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="choice" toName="image"><Choice value="one"/><Choice value="two"/></Choices></View>"""


def until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait for something that happens elsewhere."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it never happened")
        time.sleep(0.05)


@contextmanager
def server(studio: LabelStudioServer, data: Path) -> Iterator[str]:
    """The backend in a process of its own; its address."""
    address = f"http://127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": TOKEN,
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(studio.documents_root),
        "MODEL_DIR": str(data),
        "BASIC_AUTH_USER": LOGIN[0],
        "BASIC_AUTH_PASS": LOGIN[1],
        "USL_PORT": address.rpartition(":")[2],
    }
    with (data.parent / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "usl_backend", "serve"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

    def ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError((data.parent / "server.log").read_text())
        try:
            return requests.get(f"{address}/readyz", timeout=5).ok
        except requests.ConnectionError:
            return False

    try:
        until(ready)
        yield address
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def stand(count: int, *, sides: range) -> Iterator[tuple[StudioClient, str, list[str]]]:
    """A fresh Label Studio and a server: a client, the server's address, and pictures below the local-files root.

    The data set's pictures come in as many of these sides as it takes: in another size they are other pictures.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        studio = LabelStudioServer(
            home / "label-studio", username="owner@example.com", password="owner-password-1", token=TOKEN
        )
        names: list[str] = []
        for side in sides:
            if len(names) < count:
                pictures = studio.documents_root / "pictures" / str(side)
                pictures.mkdir(parents=True)
                names += [f"pictures/{side}/{path.name}" for path in write_images(pictures, side=side)]
        (home / "data").mkdir()
        with studio, server(studio, home / "data") as address, StudioClient(studio.url, TOKEN) as client:
            yield client, address, names[:count]


def project(client: StudioClient, address: str, title: str, names: list[str]) -> dict[str, Any]:
    """A connected project of local files, as START_TRAINING describes it."""
    made = dict(client.http.json("POST", "/api/projects/", body={"title": title, "label_config": CONFIG}))
    tasks = [{"data": {"image": f"/data/local-files/?d={name}"}} for name in names]
    client.http.json("POST", f"/api/projects/{made['id']}/import", body=tasks)
    backend.connect(client, made["id"], address, basic_auth=LOGIN, extra_params={"budget": 5})
    return made


def timed(call: Callable[[], requests.Response]) -> tuple[float, requests.Response]:
    """Milliseconds that the caller waits, and the answer."""
    began = time.perf_counter()
    answer = call()
    return 1000 * (time.perf_counter() - began), answer


def measure(client: StudioClient, address: str, names: list[str], rounds: int) -> dict[str, list[float]]:
    """Press Start Training while another run computes."""
    session = requests.Session()
    session.auth = LOGIN
    busy = project(client, address, "computing", names)
    other = project(client, address, "pressed", names[:10])
    backend.start_training(client, busy["id"], address)

    def state(project_id: int) -> dict[str, Any]:
        return dict(session.get(f"{address}/usl/api/runs?project={project_id}").json()["runs"][0])

    until(lambda: state(busy["id"])["stage"] == "embed" and state(busy["id"])["done"] > 0)
    took: dict[str, list[float]] = {"start": [], "second start": [], "cancel": [], "health": [], "setup": []}
    body = {"action": "START_TRAINING", "project": other}
    setup = {"project": client.project(other["id"]).key, "schema": CONFIG, "extra_params": '{"budget": 5}'}
    for _ in range(rounds):
        for name, path, told, expected in (
            ("health", "/health", None, 200),
            ("setup", "/setup", setup, 200),
            ("start", "/webhook", body, 202),
            ("second start", "/webhook", body, 409),
        ):
            method = "GET" if told is None else "POST"
            # a new connection each time, as Label Studio makes it
            milliseconds, answer = timed(
                lambda m=method, p=path, t=told: requests.request(  # type: ignore[misc]
                    m, address + p, json=t, auth=LOGIN, timeout=100
                )
            )
            if answer.status_code != expected:
                raise RuntimeError(f"{name} was answered with {answer.status_code} {answer.text}")
            took[name].append(milliseconds)
        run = state(other["id"])["id"]
        milliseconds, answer = timed(lambda r=run: session.post(f"{address}/usl/api/runs/{r}/cancel"))  # type: ignore[misc]
        if answer.status_code != 200:
            raise RuntimeError(f"cancel was answered with {answer.status_code} {answer.text}")
        took["cancel"].append(milliseconds)
    now = state(busy["id"])
    if now["state"] != "running":
        raise RuntimeError(f"the other run was {now['state']} before the end; give more --pictures")
    began = time.perf_counter()
    backend.start_training(client, other["id"], address)
    took["start, with Label Studio's own share"] = [1000 * (time.perf_counter() - began)]
    session.post(f"{address}/usl/api/runs/{state(other['id'])['id']}/cancel")
    session.post(f"{address}/usl/api/runs/{now['id']}/cancel")
    return took


def main() -> int:
    """Measure and print; 1 where an answer was too slow."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--rounds", type=int, default=20, help="Start Trainings, each cancelled before the next"
    )
    parser.add_argument("--pictures", type=int, default=4800, help="tasks of the run that computes meanwhile")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    with stand(arguments.pictures, sides=range(96, 400, 8)) as (client, address, names):
        took = measure(client, address, names, arguments.rounds)
    worst = max(took["start"] + took["second start"])
    print(f"{'answer':<40}{'count':>6}{'median ms':>12}{'p95 ms':>10}{'worst ms':>10}")
    for name, values in took.items():
        p95 = sorted(values)[max(0, round(0.95 * len(values)) - 1)]
        print(f"{name:<40}{len(values):>6}{statistics.median(values):>12.1f}{p95:>10.1f}{max(values):>10.1f}")
    print(
        f"worst Start Training: {worst:.1f} ms, limit {LIMIT:.0f} ms: {'ok' if worst <= LIMIT else 'TOO SLOW'}"
    )
    if arguments.json is not None:
        figures = {
            "machine": platform.platform(),
            "cores": os.cpu_count(),
            "limit_ms": LIMIT,
            "milliseconds": took,
        }
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())

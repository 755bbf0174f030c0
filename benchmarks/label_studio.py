"""List and publish on a real Label Studio, beside its bare bulk calls; media and embedding apart.

Bare: pages of `/api/tasks` with id, data and is_labeled, and one import of score-only predictions, as plain
requests that check nothing. Ours: `StudioClient.tasks` and `studio.queue.publish`, with everything that makes
publishing a switch. Each in a fresh project of the same server, in turn; the quickest round of each counts.

    python benchmarks/label_studio.py --tasks 10000 --json label_studio.json
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import requests

from usl_backend.demo import dataset
from usl_backend.demo.project import FILES_PER_REQUEST
from usl_backend.demo.studio_server import LabelStudioServer
from usl_backend.studio.client import StudioClient
from usl_backend.studio.queue import publish

TOKEN = "0123456789abcdef0123456789abcdef01234567"
PAGE = 5000
WORKERS = 8
LIMIT = 1.3
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="choice" toName="image"><Choice value="a"/><Choice value="b"/></Choices></View>"""


@contextmanager
def studio(directory: Path) -> Iterator[tuple[StudioClient, Path]]:
    """Run a fresh Label Studio; yield its client and its local-files root."""
    documents = directory / "documents"
    server = LabelStudioServer(
        directory,
        username="bench@example.com",
        password="bench-password",
        token=TOKEN,
        documents_root=documents,
    )
    with server, StudioClient(server.url, TOKEN, documents_root=documents) as client:
        yield client, documents


def new_project(client: StudioClient, data: list[dict[str, Any]]) -> int:
    """Make a project with these tasks."""
    body = {"title": f"bench {time.time():.0f}", "label_config": CONFIG}
    project = int(client.http.json("POST", "/api/projects/", body=body)["id"])
    if data:
        client.http.json("POST", f"/api/projects/{project}/import", body=[{"data": row} for row in data])
    return project


def timed(steps: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Note the seconds of each step."""
    seconds = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - start
    return seconds


def bare(client: StudioClient, project: int) -> dict[str, float]:
    """List and write with plain requests."""
    session = requests.Session()
    session.headers["Authorization"] = f"Token {TOKEN}"
    ids: list[int] = []

    def list_tasks() -> None:
        page = 1
        while True:
            params: dict[str, str | int] = {"project": project, "page": page, "page_size": PAGE}
            params |= {"fields": "task_only", "include": "id,data,is_labeled"}
            answer = session.get(f"{client.url}/api/tasks", params=params, timeout=600).json()
            ids.extend(row["id"] for row in answer["tasks"])
            if len(ids) >= answer["total"]:
                return
            page += 1

    def write() -> None:
        for start in range(0, len(ids), 10_000):
            rows = [
                {"task": task, "result": [], "score": (start + i) / len(ids), "model_version": "bare"}
                for i, task in enumerate(ids[start : start + 10_000])
            ]
            url = f"{client.url}/api/projects/{project}/import/predictions"
            session.post(url, json=rows, timeout=600).raise_for_status()

    with session:
        return timed({"list": list_tasks, "publish": write})


def ours(client: StudioClient, project: int) -> dict[str, float]:
    """List and publish as a run does."""
    ids: list[int] = []
    now = client.project(project)

    def list_tasks() -> None:
        ids.extend(task.id for task in client.tasks(project, data_key="image"))

    def write() -> None:
        publish(client, now, run_id=f"{project}-1", picks=ids)

    return timed({"list": list_tasks, "publish": write})


def bulk(client: StudioClient, tasks: int, rounds: int) -> dict[str, Any]:
    """Run both in turn; return the best round of each."""
    data = [{"image": f"http://example.com/{i}.png"} for i in range(tasks)]
    found: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
    for _ in range(rounds):
        for name, measure in (("bare", bare), ("ours", ours)):
            project = new_project(client, data)
            found[name].append(measure(client, project))
            client.http.request("DELETE", f"/api/projects/{project}/").close()
    best = {name: min(rows, key=lambda row: sum(row.values())) for name, rows in found.items()}
    ratio = sum(best["ours"].values()) / sum(best["bare"].values())
    return {"tasks": tasks, "rounds": found, "best": best, "ratio": ratio}


def media(client: StudioClient, documents: Path, count: int) -> dict[str, Any]:
    """Fetch the same pictures from local files and as uploads, and embed them once."""
    from usl_backend import encoders
    from usl_backend.media import MediaReader, decode_image

    pictures = dataset.write_images(documents / "pictures", side=112)[:count]
    local = [{"image": f"/data/local-files/?d=pictures/{path.name}"} for path in pictures]
    projects = {"local files": new_project(client, local), "uploads": new_project(client, [])}
    for start in range(0, len(pictures), FILES_PER_REQUEST):
        files = {
            path.name: (path.name, path.read_bytes(), "image/png")
            for path in pictures[start : start + FILES_PER_REQUEST]
        }
        path = f"/api/projects/{projects['uploads']}/import"
        client.http.request("POST", path, files=files).close()
    result: dict[str, Any] = {"pictures": len(pictures), "threads": WORKERS}
    contents: list[bytes] = []
    with MediaReader(local_roots=(documents,)) as reader, ThreadPoolExecutor(WORKERS) as pool:
        for name, project in projects.items():
            tasks = list(client.tasks(project, data_key="image"))
            assert len(tasks) == len(pictures)
            began = time.perf_counter()
            contents = list(
                pool.map(lambda task: reader.read(client.locate(task.id, task.data["image"])), tasks)
            )
            result[f"{name}, per second"] = len(contents) / (time.perf_counter() - began)
        encoder = encoders.load("efficientnet-lite0")
        began = time.perf_counter()
        decoded = [decode_image(data, size=encoder.size, limits=reader.limits) for data in contents]
        result["decoding, per second"] = len(contents) / (time.perf_counter() - began)
    began = time.perf_counter()
    for first in range(0, len(decoded), 64):
        encoder.encode(decoded[first : first + 64])
    result["embedding, per second"] = len(decoded) / (time.perf_counter() - began)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=1_000, help="of the demo's; at most 1,200")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        studio(Path(directory) / "studio") as (client, documents),
    ):
        release = client.version()
        lists = bulk(client, options.tasks, options.rounds)
        pictures = media(client, documents, options.pictures)
    print(
        f"Label Studio {release}, {options.tasks:,} tasks, seconds of the quickest of {options.rounds} rounds\n"
    )
    print(f"{'':10}{'list':>8}{'publish':>10}{'total':>8}")
    for name, row in lists["best"].items():
        print(f"{name:10}{row['list']:8.1f}{row['publish']:10.1f}{sum(row.values()):8.1f}")
    verdict = "within" if lists["ratio"] <= LIMIT else "BEYOND"
    print(f"ratio {lists['ratio']:.2f}, {verdict} the limit of {LIMIT}\n")
    print(f"{pictures['pictures']:,} pictures of 112 px (PNG), {WORKERS} threads")
    for name, value in pictures.items():
        if name.endswith("per second"):
            print(f"{name:26}{value:8.0f}")
    if options.json:
        versions = {name: version(name) for name in ("label-studio", "torch", "numpy")} | {
            "label-studio": release
        }
        report = {"bulk": lists, "media": pictures, "versions": versions, "machine": platform.platform()}
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

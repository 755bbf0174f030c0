"""A real Label Studio and a backend in a process of its own, for benchmarks of the server."""

from __future__ import annotations

import base64
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from usl_backend.demo.dataset import write_images
from usl_backend.demo.studio_server import LabelStudioServer, free_port
from usl_backend.studio import backend
from usl_backend.studio.client import StudioClient

TOKEN = "0123456789abcdef0123456789abcdef01234567"
LOGIN = ("usl", "benchmark-password")
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="choice" toName="image"><Choice value="one"/><Choice value="two"/></Choices></View>"""
AUTHORIZATION = "Basic " + base64.b64encode(":".join(LOGIN).encode()).decode()


def ask(
    address: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[float, int, http.client.HTTPResponse, bytes]:
    """Make one request over a connection of its own: milliseconds, status, head and body of the answer."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    sent = {"Authorization": AUTHORIZATION, **(headers or {})}
    if body is not None:
        sent["Content-Type"] = "application/json"
    began = time.perf_counter()
    try:
        connection.request(method, path, body=body, headers=sent)
        answer = connection.getresponse()
        content = answer.read()
        return 1000 * (time.perf_counter() - began), answer.status, answer, content
    finally:
        connection.close()


def until(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait until a condition holds in another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it never happened")
        time.sleep(0.05)


@contextmanager
def server(studio: LabelStudioServer, data: Path) -> Iterator[str]:
    """Run the backend in a process of its own; yield its address."""
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
            return ask(address, "GET", "/readyz")[1] == 200
        except OSError:
            return False

    try:
        until(ready)
        yield address
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def stand(count: int, *, sides: range) -> Iterator[tuple[StudioClient, str, list[str]]]:
    """Run a fresh Label Studio and a server: a client, the server's address, and pictures below the local-files root.

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
    """Make a connected project of local files."""
    made = dict(client.http.json("POST", "/api/projects/", body={"title": title, "label_config": CONFIG}))
    tasks = [{"data": {"image": f"/data/local-files/?d={name}"}} for name in names]
    client.http.json("POST", f"/api/projects/{made['id']}/import", body=tasks)
    backend.connect(client, made["id"], address, basic_auth=LOGIN, extra_params={"budget": 5})
    return made

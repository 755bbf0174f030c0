"""Floods of loopback connections, bounded in number and time, against the real server of connections."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection

import pytest
import requests
from flask import Flask, request

from usl_backend.web import connections
from usl_backend.web.connections import CONNECTIONS, listen
from usl_backend.web.dispatcher import UrgentFirst

MORE_THAN_ALL = CONNECTIONS + 60
LIMITS = {"/livez": 0, "/slow": 0, "/body": 2**20, "/small": 1000}


@dataclass
class Server:
    """A server in a thread, and an app that can be held at a request."""

    address: tuple[str, int]
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    app = Flask("flooded")
    dispatcher = UrgentFirst()
    dispatcher.set_thread_count(2)
    running = listen(
        app, dispatcher, host="127.0.0.1", port=0, most_bytes=2**20, limit=lambda path, headers: LIMITS[path]
    )
    found = Server(("127.0.0.1", int(running.effective_listen[0][1])))

    @app.get("/livez")
    def livez() -> str:
        return "ok"

    @app.get("/slow")
    def slow() -> str:
        found.held.set()
        found.released.wait(60)
        return "slow"

    @app.post("/body")
    def body() -> str:
        return str(len(request.data))

    @app.post("/small")
    def small() -> tuple[str, int]:
        return f"{request.content_length} {len(request.environ['wsgi.input'].read())}", 401

    thread = threading.Thread(target=running.run)
    thread.start()
    yield found
    found.released.set()
    running.asyncore.close_all(running.map)
    thread.join()
    dispatcher.shutdown()


def lives(server: Server, timeout: float = 5) -> bool:
    return requests.get(f"{server.url}/livez", timeout=timeout).text == "ok"


def flood(server: Server, stack: ExitStack, said: bytes) -> list[socket.socket]:
    """More connections than are held, each having said something that is no complete request."""
    made = []
    for _ in range(MORE_THAN_ALL):
        made.append(stack.enter_context(socket.create_connection(server.address, timeout=10)))
        if said:
            made[-1].sendall(said)
    return made


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nX-Drip: ",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nbeginning",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "idle after a request"],
)
def test_flood__probes_are_answered(server: Server, said: bytes) -> None:
    with ExitStack() as stack:
        flood(server, stack, said)
        for _ in range(3):
            assert lives(server)


def test_flood__does_not_end_a_request_that_is_computed(server: Server) -> None:
    with ExitStack() as stack:
        early = stack.enter_context(socket.create_connection(server.address, timeout=10))
        early.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert server.held.wait(10)
        flood(server, stack, b"")
        assert lives(server)
        server.released.set()
        assert early.makefile("rb").read().endswith(b"slow")


def test_head__that_drips_ends_at_its_deadline(
    server: Server, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    closed: list[bytes] = []

    def drip() -> None:
        with socket.create_connection(server.address, timeout=20) as slow:
            slow.settimeout(0.2)
            slow.sendall(b"GET /livez HTTP/1.1\r\nX-Drip: ")
            while not closed:
                try:
                    slow.sendall(b"a")
                    closed.append(slow.recv(100))
                except TimeoutError:
                    continue
                except OSError:
                    closed.append(b"")

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    wait_until(lambda: closed, seconds=20)
    thread.join()
    assert closed == [b""]


def test_head__a_kept_connection_is_no_debtor(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    kept = HTTPConnection(*server.address, timeout=5)
    kept.request("GET", "/livez")
    assert kept.getresponse().read() == b"ok"
    connected = kept.sock
    time.sleep(3)
    kept.request("POST", "/body", b"x" * 70_000)
    assert kept.getresponse().read() == b"70000"
    assert kept.sock is connected
    kept.close()


@pytest.mark.parametrize(
    ("said", "size"),
    [
        (b"Content-Length: 900000\r\n\r\n", 900_000),
        (b"Content-Length: 900000\r\nExpect: 100-continue\r\n\r\n", 900_000),
        (b"Transfer-Encoding: chunked\r\n\r\n" + b"200\r\n" + b"x" * 512 + b"\r\n200\r\n" + b"x" * 512, None),
    ],
    ids=["length", "expect", "chunks"],
)
def test_body__beyond_its_limit_is_not_received(server: Server, said: bytes, size: int | None) -> None:
    with socket.create_connection(server.address, timeout=10) as stranger:
        stranger.sendall(b"POST /small HTTP/1.1\r\nHost: x\r\n" + said)
        answer = stranger.makefile("rb").read()
    head, _, told = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"Connection: close" in head
    length, received = told.split()
    assert int(length) == size or (size is None and int(length) > LIMITS["/small"])
    assert received == b"0"
    assert lives(server)


def test_body__what_was_not_received_is_no_request(server: Server) -> None:
    smuggled = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(server.address, timeout=10) as stranger:
        head = f"POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: {len(smuggled) + 2000}\r\n\r\n"
        stranger.sendall(head.encode() + smuggled)
        said = stranger.makefile("rb").read()
    assert said.count(b"HTTP/1.1 ") == 1
    assert not server.held.is_set()


@pytest.mark.parametrize("size", [0, 999, 1000, 1001])
def test_body__up_to_its_limit_is_received(server: Server, size: int) -> None:
    answer = requests.post(f"{server.url}/small", data=b"x" * size, timeout=5)
    assert answer.text == f"{size} {size if size <= 1000 else 0}"
    chunks = iter([b"x" * 600, b"x" * 600])
    assert requests.post(f"{server.url}/body", data=chunks, timeout=5).text == "1200"


def test_allowed__is_bounded_by_the_files_that_may_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: asked.append(limits))
    for limits, expected in [
        ((256, 4096), 500),
        ((256, 400), 200),
        ((256, -1), 500),
        ((65536, -1), 500),
        ((-1, -1), 500),
    ]:
        monkeypatch.setattr("resource.getrlimit", lambda _, limits=limits: limits)
        assert connections._allowed(500) == expected
    assert asked == [(1000, 4096), (400, 400), (1000, -1)]

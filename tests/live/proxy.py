"""A real HTTP proxy on the loopback that stands before a real Label Studio and misbehaves as a test says."""

import contextlib
import http.client
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

ALWAYS = 10**9
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>"
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})


@dataclass
class Fault:
    """What happens to requests that match; all else passes.

    `delivered` says whether Label Studio gets the request all the same: then only its answer is lost.
    """

    method: str = ".*"
    path: str = ".*"
    times: int = ALWAYS
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    reset: bool = False
    cut: float | None = None
    """Share of the answer's body that arrives; its length is announced truly."""
    truncated: float | None = None
    """Share of the answer's body that arrives; its length is announced accordingly."""
    delivered: bool = False
    authorized_by: str = ".*"
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    """Called once Label Studio has answered, before the answer is passed on."""
    rewrite: Callable[[Any], Any] | None = None

    def takes(self, method: str, path: str, authorization: str) -> bool:
        return (
            self.times > 0
            and re.fullmatch(self.method, method) is not None
            and re.search(self.path, path) is not None
            and re.search(self.authorized_by, authorization) is not None
        )


class FaultyProxy:
    """Forwards to `upstream`; `faults` are looked at in order, the first that matches is used up by one.

    With a `prefix` only paths below it are forwarded, without it, as proxies with a sub-path do.
    """

    def __init__(self, upstream: str, *, prefix: str = "") -> None:
        self.upstream, self.prefix = urlsplit(upstream), prefix
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str]] = []
        self.port = 0
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listen(self) -> None:
        """Begin to accept connections, always under the same address."""
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def hang_up(self) -> None:
        """Stop: connections are refused from now on, and those that are open are cut."""
        if self._server is None or self._thread is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        server.server_close()
        self._thread.join()
        for connection in list(server.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def absent_for(self, seconds: float) -> Callable[[], None]:
        """A restart, to be had `before` a request: the listener goes and comes back."""

        def restart() -> None:
            def away() -> None:
                self.hang_up()
                time.sleep(seconds)
                self.listen()

            threading.Thread(target=away).start()

        return restart

    def fault_of(self, method: str, path: str, authorization: str) -> Fault | None:
        with self._lock:
            self.asked.append((method, path))
            for fault in self.faults:
                if fault.takes(method, path, authorization):
                    fault.times -= 1
                    return fault
        return None

    @contextmanager
    def misbehaving(self, *faults: Fault) -> Iterator[None]:
        self.faults = list(faults)
        try:
            yield
        finally:
            self.faults = []


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], proxy: FaultyProxy) -> None:
        self.proxy = proxy
        self.open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def handle_error(self, *_: Any) -> None:
        """A client that hung up is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        super().finish()

    def log_message(self, *_: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.proxy.fault_of(self.command, self.path, self.headers.get("Authorization", ""))
        prefix = self.server.proxy.prefix
        if not self.path.startswith(prefix + "/"):
            self._answer(404, {}, b"")
            return
        self.path = self.path.removeprefix(prefix)
        if fault is None:
            self._answer(*self._forwarded(body))
            return
        if fault.before is not None:
            fault.before()
        time.sleep(fault.delay)
        if fault.rewrite is not None:
            body = json.dumps(fault.rewrite(json.loads(body))).encode()
        told = fault.status is None and not fault.reset
        answer = self._forwarded(body) if told or fault.delivered else (0, {}, b"")
        if fault.after is not None:
            fault.after()
        if fault.reset:
            # with no time to linger, closing sends a reset instead of an end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
        elif fault.status is not None:
            self._answer(fault.status, fault.headers, fault.body)
        else:
            status, headers, content = answer
            if fault.truncated is not None:
                content = content[: int(len(content) * fault.truncated)]
            self._answer(status, headers, content, sent=fault.cut)

    def _forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = self.server.proxy.upstream
        connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=300)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["Accept-Encoding"] = "identity"
        try:
            connection.request(self.command, self.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, *, sent: float | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if sent is not None:
            body = body[: int(len(body) * sent)]
            self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(body)

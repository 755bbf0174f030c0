import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from usl_backend.studio import reach


@pytest.fixture
def server():
    """Answers with `server.status`, and notes the headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.seen.append((self.path, self.headers.get("Authorization")))
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.status = [], 200
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "up"), [(200, True), (401, True), (404, True), (500, False), (502, False)]
)
def test_is_reachable__by_status(server, status, up):
    server.status = status
    assert reach.is_reachable(f"http://127.0.0.1:{server.server_port}/studio") is up
    assert server.seen == [("/studio/health", None)]


def test_is_reachable__nobody_there_or_silent(monkeypatch):
    monkeypatch.setattr(reach, "PATIENCE", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert not reach.is_reachable(address)
    assert not reach.is_reachable(address)

"""A real HTTP server of files, busy or away as a test wants it."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Refuse = Callable[[str], tuple[int, dict[str, str]] | None]


class Host(ThreadingHTTPServer):
    """Serves files, except where `refuse` has a status and headers for a path."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        self.refuse: Refuse = lambda _: None
        self.statuses: Counter[int] = Counter()
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:  # noqa: N805
                with lock:
                    status, headers = self.refuse(handler.path) or (200, {})
                    path = folder / handler.path[1:]
                    if status == 200 and not path.is_file():
                        status = 404
                    self.statuses[status] += 1
                body = path.read_bytes() if status == 200 else b""
                handler.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(body)

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server_address[1]}"

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> "Iterator[Host]":
        """Serve a folder's files for a block."""
        with cls(folder) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            yield server
            server.shutdown()
            thread.join()

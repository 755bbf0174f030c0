"""A backend that only notes what Label Studio asks of it."""

import json
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CREDENTIALS = ("usl", "pass word")


class Recorder(ThreadingHTTPServer):
    """Answers like an ML backend behind basic auth and keeps what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.requests if asked == path]


class _Handler(BaseHTTPRequestHandler):
    server: Recorder

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        expected = "Basic " + b64encode(":".join(CREDENTIALS).encode()).decode()
        allowed = self.headers.get("Authorization") == expected
        if allowed:
            self.server.requests.append((self.path, body))
        answer = json.dumps({"status": "UP", "model_version": "usl"}).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

"""A server on this machine that speaks the Hugging Face hub's protocol, and torch's download server's."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class LocalHub:
    """Repositories and how they misbehave.

    Attributes
    ----------
    url, files
        Address, and the name under which it serves large files.
    repositories
        Name -> file -> content.
    cards
        Name -> model card.
    refused
        Repository -> (status, the hub's error code).
    cut
        Answers of large files that end after half of the bytes; the next ones are whole.
    altered
        Large files arrive with another byte.
    """

    url: str = ""
    files: str = ""
    revision: str = "a" * 40
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cards: dict[str, dict] = field(default_factory=dict)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    cut: int = 0
    altered: bool = False
    requests: list[str] = field(default_factory=list)


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".onnx"))


class Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.info("/".join(parts[2:4]))
        elif len(parts) > 4 and parts[2] == "resolve":
            self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        elif parts[0] == "cdn":
            repository, name = "/".join(parts[1:3]), "/".join(parts[3:])
            self.content(self.hub.repositories[repository][name])
        elif path in self.hub.plain:
            self.content(self.hub.plain[path])
        else:
            self.send(404, {}, b"")

    def refuses(self, repository: str) -> bool:
        status, code = self.hub.refused.get(repository, (0, ""))
        if repository not in self.hub.repositories:
            status, code = 401, "RepoNotFound"
        if status:
            self.send(status, {"X-Error-Code": code}, b'{"error": "no"}')
        return bool(status)

    def info(self, repository: str) -> None:
        if repository not in self.hub.repositories or self.hub.refused.get(repository, (0, ""))[0] == 500:
            self.refuses(repository)
            return
        siblings = []
        for name, content in self.hub.repositories[repository].items():
            entry = {"rfilename": name, "size": len(content), "blobId": git_id(content)}
            if is_large(name):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 135}
            siblings.append(entry)
        card = self.hub.cards.get(repository)
        found = {
            "id": repository,
            "sha": self.hub.revision,
            "siblings": siblings,
            "cardData": card,
            "tags": [],
        }
        self.send(200, {"Content-Type": "application/json"}, json.dumps(found).encode())

    def resolve(self, repository: str, revision: str, name: str) -> None:
        if self.refuses(repository):
            return
        content = self.hub.repositories[repository].get(name)
        if content is None or revision != self.hub.revision:
            self.send(404, {"X-Error-Code": "EntryNotFound"}, b"")
            return
        headers = {"X-Repo-Commit": self.hub.revision}
        if is_large(name):
            headers |= {
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Location": f"{self.hub.url.replace('127.0.0.1', 'localhost')}/cdn/{repository}/{name}?signature=1",
            }
            self.send(302, headers, b"")
        else:
            self.send(200, headers | {"ETag": f'"{git_id(content)}"'}, content)

    def content(self, content: bytes) -> None:
        if self.hub.altered:
            content = content[:-1] + bytes([content[-1] ^ 1])
        status, headers, start = 200, {"Accept-Ranges": "bytes"}, 0
        if given := self.headers.get("Range"):
            start = int(given.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status = 206
        part = content[start:]
        whole = len(part)
        if self.hub.cut and self.command == "GET":
            self.hub.cut -= 1
            part = part[: whole // 2]
            self.close_connection = True
        self.send(status, headers, part, length=whole)

    def send(self, status: int, headers: dict[str, str], body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(body) if length is None else length),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def running_hub() -> Iterator[LocalHub]:
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.files = f"http://localhost:{server.server_address[1]}"
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def git_id(content: bytes) -> str:
    """Id of a git blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

"""What is read of damaged pictures and of awkward answers is what Chromium shows."""

import base64
import gzip
import io
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from damaged_pictures import SIDE, not_shown, saved, scene, shown_whole
from PIL import Image

WHOLE, PARTS = shown_whole(), not_shown()
PNG = saved("PNG")
ENCODED = {
    "": PNG,
    "aws-chunked": PNG,
    "utf-8": PNG,
    "gzip": gzip.compress(PNG),
    "deflate": zlib.compress(PNG)[2:-4],
}
TEXT = base64.b64encode(PNG).decode()
ADDRESSES = {
    "unpadded": "data:image/png;base64," + TEXT.rstrip("="),
    "lines": "data:image/png; base64 ,\n" + "\r\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
    "blanks": "data:image/png;base64, " + " ".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
}
DRAW = """async (address) => {
    const image = new Image();
    await new Promise(done => { image.onload = image.onerror = done; image.src = address; });
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 256;
    const drawing = canvas.getContext('2d');
    if (image.naturalWidth) { try { drawing.drawImage(image, 0, 0); } catch {} }
    return canvas.toDataURL('image/png').split(',')[1];
}"""
"""Draws a picture and returns the canvas as a file: its numbers by themselves would take seconds to hand over."""


class _Host(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind, _, name = self.path[1:].partition("/")
        if kind == "gr%C3%B6%C3%9Fe.png":
            body = PNG
        elif kind == "encoded":
            body = ENCODED[name]
        else:
            body = {**WHOLE, **PARTS}.get(name.replace("%20", " "), b"")
        self.send_response(302 if kind == "redirect" else 200)
        if kind == "redirect":
            self._headers_buffer.append("Location: /größe.png\r\n".encode())
        if kind == "encoded":
            self.send_header("Content-Encoding", name)
        self.send_header("Content-Type", "image/png" if kind else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Host) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_chromium__shows_what_is_read_and_only_a_part_of_what_is_damaged(page, host) -> None:
    page.goto(f"{host}/")

    def rows(address: str) -> float:
        """Share of the rows that look as in the sound picture."""
        with Image.open(io.BytesIO(base64.b64decode(page.evaluate(DRAW, address)))) as file:
            drawn = np.asarray(file.convert("RGBA"))[..., :3].astype(int)
        return float((np.abs(drawn - np.asarray(scene()).astype(int)).mean(axis=(1, 2)) < 20).mean())

    shown = {name: rows(f"{host}/picture/{name}") for name in [*WHOLE, *PARTS]}
    # Chromium leaves out the last row of blocks of a JPEG that lacks its end, though all of it is there.
    assert {name: share for name, share in shown.items() if name in WHOLE and share < 1 - 18 / SIDE} == {}
    assert {name: share for name, share in shown.items() if name in PARTS and share > 0.9} == {}
    assert [rows(f"{host}/encoded/{name}") for name in ENCODED] == [1.0] * len(ENCODED)
    assert [rows(address) for address in ADDRESSES.values()] == [1.0] * len(ADDRESSES)
    assert rows(f"{host}/redirect") == 1.0

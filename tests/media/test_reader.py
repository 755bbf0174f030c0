import base64
import gzip
import os
import pickle
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from usl_backend.errors import MediaError
from usl_backend.media import (
    Location,
    MediaLimits,
    MediaReader,
    UnauthorizedError,
    UnavailableError,
    host_of,
    hosts,
)

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """A real server on the loopback that records what it was asked."""

    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:  # noqa: N805
                self.requests.append((handler.path, dict(handler.headers)))
                answer(handler)

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def get_request(self) -> tuple[socket.socket, object]:
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that hangs up is what several tests are about."""


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    server = Server(answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def body(data: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def redirect(to: Callable[[], str], status: int = 302) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body(b"moved", status, Location=to())(handler)

    return answer


def to_loopback(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to open a connection is a failure of the test, not a MediaError."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("usl_backend.media.transport._PlainSocket", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def media() -> Iterator[MediaReader]:
    with MediaReader() as made:
        yield made


# -- addresses ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/",
        "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:a00:1]/", "http://[64:ff9b::7f00:1]/",
        "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "https://192.168.0.1/",
        "http://inside.test/", "file:///etc/passwd", "ftp://public.test/", "http://user@public.test/",
    ],
)  # fmt: skip
def test_read__refused_before_a_socket_opens(url: str) -> None:
    with MediaReader(resolver=to_loopback) as guarded, pytest.raises(MediaError) as caught:
        guarded.read(Location(url=url))
    assert not isinstance(caught.value, UnavailableError)


@pytest.mark.usefixtures("no_sockets")
def test_read__trust_ends_at_the_origin() -> None:
    # The same host on another port is another service, perhaps a database's.
    with MediaReader(allowed_hosts=["inside.test:81"], resolver=to_loopback) as guarded:
        with pytest.raises(MediaError, match="private"):
            guarded.read(Location(url="http://inside.test:82/"))
        with pytest.raises(AssertionError, match="socket"):
            guarded.read(Location(url="http://inside.test:81/"))


def test_read__trusted_origin_may_be_private(media: MediaReader) -> None:
    with serving(body(b"bytes")) as server:
        assert media.read(Location(url=f"{server.url}/a.png?x=1", trusted=True)) == b"bytes"
    assert server.requests[0][0] == "/a.png?x=1"


def test_read__allowed_host_may_be_private() -> None:
    with serving(body(b"bytes")) as server:
        with MediaReader(allowed_hosts=["Inside.Test"], resolver=to_loopback) as allowed:
            assert allowed.read(Location(url=f"http://inside.test:{server.port}/")) == b"bytes"
        assert server.requests[0][1]["Host"] == f"inside.test:{server.port}"


def test_read__rebinding_name_is_not_asked_twice() -> None:
    answers = iter([[(socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]])

    def rebinding(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        # The first answer is what gets checked; a second question would raise StopIteration.
        return [
            (family, kind, proto, name, (address[0], port))
            for family, kind, proto, name, address in next(answers)
        ]

    with serving(body(b"bytes")) as server, MediaReader(resolver=rebinding) as guarded:
        location = Location(url=f"http://rebinding.test:{server.port}/", trusted=True)
        assert guarded.read(location) == b"bytes"


@pytest.mark.usefixtures("no_sockets")
def test_read__rebinding_to_private_between_two_reads_is_refused() -> None:
    answers = iter(["8.8.8.8", "127.0.0.1"])

    def rebinding(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, 1, 6, "", (next(answers), port))]

    with MediaReader(resolver=rebinding) as guarded:
        with pytest.raises(AssertionError, match="socket"):  # public: would be connected to
            guarded.read(Location(url="http://rebinding.test/"))
        with pytest.raises(MediaError, match="private"):
            guarded.read(Location(url="http://rebinding.test/"))


def test_read__connects_to_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[object] = []
    monkeypatch.setattr(
        socket.socket,
        "connect",
        lambda self, address: connected.append(address) or (_ for _ in ()).throw(OSError("stop")),
    )

    def resolver(host, port, **_):
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in ("8.8.8.8", "9.9.9.9")]

    with MediaReader(resolver=resolver) as guarded, pytest.raises(UnavailableError, match="stop"):
        guarded.read(Location(url="http://public.test/"), once=True)
    assert connected == [("8.8.8.8", 80), ("9.9.9.9", 80)]


# -- redirects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_read__redirect_within_the_origin_keeps_the_headers(media: MediaReader, status: int) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        (body(b"bytes") if handler.path == "/b" else redirect(lambda: "b", status))(handler)

    with serving(answer) as server:
        location = Location(url=f"{server.url}/a", headers={"Authorization": "Token secret"}, trusted=True)
        assert media.read(location) == b"bytes"
        assert [(path, headers["Authorization"]) for path, headers in server.requests] == [
            ("/a", "Token secret"),
            ("/b", "Token secret"),
        ]
        assert server.connections == 1


def test_read__redirect_to_another_origin_loses_the_headers() -> None:
    with serving(body(b"bytes")) as other, serving(redirect(lambda: f"{other.url}/b")) as server:
        with MediaReader(allowed_hosts=["127.0.0.1"]) as allowed:
            location = Location(url=server.url, headers={"Authorization": "Token secret"}, trusted=True)
            assert allowed.read(location) == b"bytes"
        assert "Authorization" in server.requests[0][1]
        assert "Authorization" not in other.requests[0][1]


@pytest.mark.parametrize(
    "onward",
    ["http://127.0.0.1:1/", "//127.0.0.1:1/", "http://[::1]/", "http://2130706433/", "http://169.254.169.254/",
     "file:///etc/passwd", "data:text/plain,x", "http://inside.test/"],
)  # fmt: skip
def test_read__redirect_to_private_or_other_scheme_is_refused(onward: str) -> None:
    with serving(redirect(lambda: onward)) as server, MediaReader(resolver=to_loopback) as guarded:
        with pytest.raises(MediaError, match=r"private or reserved|scheme"):
            guarded.read(Location(url=server.url, trusted=True))
        assert len(server.requests) == 1


def test_read__coming_home_through_a_stranger_brings_no_trust() -> None:
    with serving(redirect(lambda: f"{server.url}/api/secret")) as stranger:
        onward = f"http://stranger.test:{stranger.port}/"
        with serving(redirect(lambda: onward)) as server:
            with MediaReader(allowed_hosts=["stranger.test"], resolver=to_loopback) as guarded:
                location = Location(url=server.url, headers={"Authorization": "Token secret"}, trusted=True)
                with pytest.raises(MediaError, match="private"):
                    guarded.read(location)
            assert [path for path, _ in server.requests] == ["/"]
            assert len(stranger.requests) == 1


def test_read__endless_redirects(media: MediaReader) -> None:
    with serving(redirect(lambda: "/again")) as server:
        with pytest.raises(MediaError, match="more than 5 redirects"):
            media.read(Location(url=server.url, trusted=True))
        assert len(server.requests) == 6


# -- caps --------------------------------------------------------------------------------------------------


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"1000\r\n" + bytes(4096) + b"\r\n")


@pytest.mark.parametrize("answer", [body(bytes(100_001)), endless], ids=["announced", "endless"])
def test_read__too_large(answer: Answer) -> None:
    with (
        serving(answer) as server,
        MediaReader(limits=MediaLimits(bytes=100_000)) as guarded,
        pytest.raises(MediaError, match="more than the limit of 100,000"),
    ):
        guarded.read(Location(url=server.url, trusted=True))


def test_read__exactly_the_limit_is_allowed() -> None:
    with serving(body(bytes(100_000))) as server, MediaReader(limits=MediaLimits(bytes=100_000)) as guarded:
        assert len(guarded.read(Location(url=server.url, trusted=True))) == 100_000


def drip_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


def drip_head(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


def silence(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.0)


@pytest.mark.parametrize("answer", [drip_body, drip_head, silence])
def test_read__slow_answers_end_at_the_deadline(answer: Answer) -> None:
    with (
        serving(answer) as server,
        MediaReader(limits=MediaLimits(seconds=0.3), patience=0) as guarded,
        pytest.raises(UnavailableError, match="did not deliver in time"),
    ):
        guarded.read(Location(url=server.url, trusted=True))


def test_read__truncated_answer(media: MediaReader) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x" * 400)
        handler.close_connection = True

    with serving(answer) as server, pytest.raises(UnavailableError, match="600 bytes before the end"):
        media.read(Location(url=server.url, trusted=True), once=True)


@pytest.mark.parametrize("encoding", ["", "identity", "aws-chunked", "utf-8", "gzip", "deflate"])
def test_read__encoded_answer_is_what_it_was_before(encoding: str, media: MediaReader) -> None:
    sent = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(b"bytes")
    with serving(body(sent, Content_Encoding=encoding)) as server:
        assert media.read(Location(url=server.url, trusted=True)) == b"bytes"


def test_read__compressed_answer_is_inflated_under_the_cap() -> None:
    bomb = body(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")
    with (
        serving(bomb) as server,
        MediaReader(limits=MediaLimits(bytes=100_000)) as guarded,
        pytest.raises(MediaError, match="more than the limit of 100,000"),
    ):
        guarded.read(Location(url=server.url, trusted=True))


@pytest.mark.parametrize(
    ("raw", "asked"),
    [
        ("/gr\u00f6\u00dfe \u4e2d.png?a=\u00e9".encode(), "/gr%C3%B6%C3%9Fe%20%E4%B8%AD.png?a=%C3%A9"),
        ("/gr\u00f6\u00dfe.png".encode("latin-1"), "/gr%F6%DFe.png"),
        (b"/gr%C3%B6%C3%9Fe.png", "/gr%C3%B6%C3%9Fe.png"),
    ],
    ids=["utf-8", "latin-1", "ascii"],
)
def test_read__redirect_in_raw_bytes(raw: bytes, asked: str, media: MediaReader) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path != "/":
            return body(b"bytes")(handler)
        handler.send_response(302)
        handler._headers_buffer.append(b"Location: " + raw + b"\r\n")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return None

    with serving(answer) as server:
        assert media.read(Location(url=server.url, trusted=True)) == b"bytes"
        assert server.requests[1][0] == asked


def test_read__empty_answer(media: MediaReader) -> None:
    with serving(body(b"")) as server, pytest.raises(MediaError, match="empty"):
        media.read(Location(url=server.url, trusted=True))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds."""
    monkeypatch.setattr(hosts, "_BACKOFF_SECONDS", 0.002)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    ("status", "error", "tries"),
    [(401, UnauthorizedError, 1), (403, MediaError, 1), (404, MediaError, 1), (410, MediaError, 1),
     (500, UnavailableError, 5), (502, UnavailableError, 5), (503, UnavailableError, 5),
     (504, UnavailableError, 5), (522, UnavailableError, 5)],
)  # fmt: skip
def test_read__status(status: int, error: type[MediaError], tries: int, trusted: bool) -> None:
    with serving(body(b"no", status)) as server, MediaReader(allowed_hosts=["127.0.0.1"]) as media:
        with pytest.raises(error, match=f"127.0.0.1 answered {status}") as caught:
            media.read(Location(url=f"{server.url}/?token=secret", trusted=trusted))
        assert type(caught.value) is error
        assert getattr(caught.value, "host", f"127.0.0.1:{server.port}") == f"127.0.0.1:{server.port}"
        assert "secret" not in str(caught.value)
        assert len(server.requests) == tries


def slammed(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection instead of answering."""
    handler.close_connection = True


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection in the middle of the answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 400)
    handler.close_connection = True


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "failure",
    [body(b"", 429), body(b"", 502), body(b"", 503, Retry_After="0"), body(b"", 504), slammed, reset, cut],
    ids=["429", "502", "503", "504", "closed", "reset", "cut"],
)
def test_read__a_host_that_fails_for_a_moment_costs_nothing(failure: Answer) -> None:
    answers = iter([failure, failure, body(b"bytes")])
    with (
        serving(lambda handler: next(answers)(handler)) as server,
        MediaReader(allowed_hosts=["127.0.0.1"]) as media,
    ):
        assert media.read(Location(url=server.url)) == b"bytes"
        assert len(server.requests) == 3


def test_read__waits_for_as_long_as_the_host_asks() -> None:
    asked: list[float] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(time.monotonic())
        (body(b"bytes") if len(asked) > 1 else body(b"", 503, Retry_After="1"))(handler)

    with serving(answer) as server, MediaReader(allowed_hosts=["127.0.0.1"]) as media:
        assert media.read(Location(url=server.url)) == b"bytes"
    assert 1.0 <= asked[1] - asked[0] < 5.0


@pytest.mark.usefixtures("quick")
def test_read__a_host_behind_a_redirect_is_asked_again_and_named() -> None:
    answers = iter([body(b"", 503), body(b"bytes"), *[body(b"", 503)] * 5])
    with (
        serving(lambda handler: next(answers)(handler)) as far,
        serving(redirect(lambda: far.url)) as near,
        MediaReader(allowed_hosts=["127.0.0.1"]) as media,
    ):
        assert media.read(Location(url=near.url)) == b"bytes"
        with pytest.raises(UnavailableError) as caught:
            media.read(Location(url=near.url))
        assert caught.value.host == f"127.0.0.1:{far.port}"
        assert len(near.requests) == 2


def test_read__nobody_listens(media: MediaReader) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(UnavailableError, match="refused"):
            media.read(Location(url=f"http://127.0.0.1:{port}/", trusted=True), once=True)


def test_read__proxies_of_the_environment_are_not_used_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        serving(body(b"of the proxy")) as proxy,
        serving(body(b"bytes")) as server,
        socket.socket() as unused,
    ):
        unused.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with MediaReader(allowed_hosts=["127.0.0.1"]) as media:
            assert media.read(Location(url=server.url)) == b"bytes"
            with pytest.raises(
                UnavailableError, match=r"refused; media are fetched without the proxy in HTTP_PROXY"
            ):
                media.read(Location(url=gone), once=True)
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            with pytest.raises(UnavailableError, match=r"refused$"):
                media.read(Location(url=gone), once=True)
        assert proxy.requests == []


def test_host_of__a_location() -> None:
    assert host_of(Location(url="https://Images.Test:443/a.png?x=1")) == "images.test"
    assert host_of(Location(url="http://images.test:81/a.png")) == "images.test:81"
    assert host_of(Location(url="s3://photos/a/b.png")) == "s3://photos"
    for nowhere in (Location(path=Path("/a.png")), Location(url="data:,a"), Location(url="ftp://host/a")):
        assert host_of(nowhere) == ""


# -- connections -------------------------------------------------------------------------------------------


def test_read__connections_are_kept_and_shared_by_threads(media: MediaReader) -> None:
    with serving(lambda handler: body(handler.path.encode() * 1000)(handler)) as server:
        with ThreadPoolExecutor(4) as pool:
            urls = [f"{server.url}/{number}" for number in range(200)]
            found = list(pool.map(lambda url: media.read(Location(url=url, trusted=True)), urls))
        assert found == [f"/{number}".encode() * 1000 for number in range(200)]
        assert server.connections <= 4
        media.close()


def test_read__server_that_hung_up_meanwhile_is_asked_again(media: MediaReader) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body(b"bytes")(handler)
        handler.close_connection = True  # without saying so

    with serving(answer) as server:
        for _ in range(5):
            assert media.read(Location(url=server.url, trusted=True)) == b"bytes"
        assert server.connections == 5


def test_read__chunked_answers_are_read_to_the_end_and_kept(media: MediaReader) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    with serving(answer) as server:
        assert [media.read(Location(url=server.url, trusted=True)) for _ in range(3)] == [b"abcde"] * 3
        assert server.connections == 1


# -- data URLs ---------------------------------------------------------------------------------------------


def test_read__data_url(media: MediaReader) -> None:
    payload = bytes(range(256))
    encoded = base64.b64encode(payload).decode()
    assert media.read(media.locate(f"data:image/png;base64,{encoded}")) == payload
    assert media.read(media.locate("DATA:,a%20b")) == b"a b"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,****", "base64"),
        ("data:image/png;base64,", "empty"),
        ("data:," + "x" * 101, "more than the limit"),
        ("data:;base64," + "A" * 400, "more than the limit"),
    ],
)
def test_read__bad_data_url(url: str, reason: str) -> None:
    with MediaReader(limits=MediaLimits(bytes=100)) as guarded, pytest.raises(MediaError, match=reason):
        guarded.read(Location(url=url))


# -- files -------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Inside folder: a/b.png; outside: secret.png and folders/c.png."""
    (tmp_path / "folder" / "a").mkdir(parents=True)
    (tmp_path / "folders").mkdir()
    (tmp_path / "folder" / "a" / "b.png").write_bytes(b"inside")
    (tmp_path / "folder" / "100%25 a.png").write_bytes(b"percent")
    (tmp_path / "secret.png").write_bytes(b"outside")
    (tmp_path / "folders" / "c.png").write_bytes(b"outside")
    return tmp_path


def test_read__file_below_a_root(tree: Path) -> None:
    guarded = MediaReader(local_roots=[tree / "folders", tree / "folder"])
    for source in ("a/b.png", str(tree / "folder" / "a" / "b.png"), "a/./b.png"):
        location = guarded.locate(source)
        assert location.path == tree / "folder" / "a" / "b.png"
        assert guarded.read(location) == b"inside"
    assert guarded.read(guarded.locate("100%25 a.png")) == b"percent"


@pytest.mark.parametrize(
    "source",
    [
        "../secret.png", "a/../../secret.png", "..%2fsecret.png", "%2e%2e/secret.png", "%252e%252e%252fsecret.png",
        "a\\..\\..\\secret.png", "..\\secret.png", "/etc/passwd", "//etc/passwd", "\\\\server\\share\\a.png",
        "%5c%5cserver%5cshare", "a/b.png\0.jpg", "a/b.png%00.jpg", "../folders/c.png", "~/a.png\0", "/",
        "file:///etc/passwd", "C:\\a.png", "a/../../folder/a/b.png",
    ],
)  # fmt: skip
def test_locate__no_path_leaves_its_root(tree: Path, source: str) -> None:
    with pytest.raises(MediaError):
        MediaReader(local_roots=[tree / "folder"]).locate(source)


@pytest.mark.parametrize("trusted", [False, True])
def test_read__location_outside_the_roots_is_refused_however_it_was_made(tree: Path, trusted: bool) -> None:
    guarded = MediaReader(local_roots=[tree / "folder"])
    for path in (tree / "secret.png", tree / "folders" / "c.png", tree / "folder" / ".." / "secret.png"):
        with pytest.raises(MediaError, match=r"outside|'..'"):
            guarded.read(Location(path=path, trusted=trusted))


def test_read__without_roots_no_file(tree: Path) -> None:
    with pytest.raises(MediaError, match="no local root"):
        MediaReader().read(Location(path=tree / "secret.png", trusted=True))


def test_read__symbolic_links(tree: Path) -> None:
    (tree / "folder" / "out.png").symlink_to(tree / "secret.png")
    (tree / "folder" / "outside").symlink_to(tree)
    (tree / "folder" / "in.png").symlink_to(tree / "folder" / "a" / "b.png")
    (tree / "folder" / "loop").symlink_to(tree / "folder" / "loop")
    guarded = MediaReader(local_roots=[tree / "folder"])
    for source in ("out.png", "outside/secret.png", "outside/folder/../secret.png"):
        with pytest.raises(MediaError, match=r"outside|'..'"):
            guarded.locate(source)
    with pytest.raises(MediaError):
        guarded.read(guarded.locate("loop"))
    assert guarded.read(guarded.locate("in.png")) == b"inside"


def test_read__folder_swapped_for_a_link_after_the_check(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = MediaReader(local_roots=[tree / "folder"])
    checked = guarded._below_root

    def swapping(source: str) -> Path:
        path = checked(source)
        (tree / "folder" / "a").rename(tree / "folder" / "old")
        (tree / "folder" / "a").symlink_to(tree / "evil")
        return path

    (tree / "evil").mkdir()
    (tree / "evil" / "b.png").write_bytes(b"outside")
    (tree / "folder" / "link").symlink_to(tree / "folder" / "a")
    monkeypatch.setattr(guarded, "_below_root", swapping)
    with pytest.raises(MediaError, match="cannot be read"):
        guarded.read(Location(path=tree / "folder" / "link" / "b.png"))


def test_read__folder_swapped_for_a_link_after_it_was_located(tree: Path) -> None:
    guarded = MediaReader(local_roots=[tree / "folder"])
    location = guarded.locate("a/b.png")
    (tree / "evil").mkdir()
    (tree / "evil" / "b.png").write_bytes(b"outside")
    (tree / "folder" / "a").rename(tree / "folder" / "old")
    (tree / "folder" / "a").symlink_to(tree / "evil")
    with pytest.raises(MediaError, match="outside"):
        guarded.read(location)
    (tree / "folder" / "a").unlink()
    (tree / "folder" / "a").symlink_to(tree / "folder" / "old")
    assert guarded.read(location) == b"inside"


def test_read__a_file_that_says_it_is_empty_while_it_is_not() -> None:
    """As in /proc, or while somebody writes it: what is there is read, under the cap all the same."""
    whole = Path("/proc/self/status").read_bytes()
    root = [Path("/proc/self").resolve()]
    path = root[0] / "status"
    assert path.stat().st_size == 0
    assert MediaReader(local_roots=root).read(Location(path=path))[:6] == whole[:6]
    with pytest.raises(MediaError, match="more than the limit of 5"):
        MediaReader(local_roots=root, limits=MediaLimits(bytes=5)).read(Location(path=path))


def test_read__what_is_no_regular_file(tree: Path) -> None:
    os.mkfifo(tree / "folder" / "pipe")
    guarded = MediaReader(local_roots=[tree / "folder"], limits=MediaLimits(bytes=5))
    for source, reason in (
        ("pipe", "regular"),
        ("a", "directory"),
        ("none.png", "No such file"),
        ("a/b.png", "limit"),
    ):
        with pytest.raises(MediaError, match=reason):
            guarded.read(guarded.locate(source))


def test_read__unreadable_name(tree: Path) -> None:
    guarded = MediaReader(local_roots=[tree / "folder"])
    with pytest.raises(MediaError, match="too long"):
        guarded.read(guarded.locate("x" * 5000))


def test_location__headers_do_not_show() -> None:
    assert "secret" not in repr(Location(url="http://host/", headers={"Authorization": "Token secret"}))


def test_reader__sent_to_another_process_keeps_its_rules(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"words")
    limits = MediaLimits(bytes=10, seconds=1.5)
    with MediaReader(
        limits=limits,
        local_roots=[tmp_path],
        allowed_hosts=["127.0.0.1:1"],
        object_stores=True,
        patience=3.5,
    ) as one:
        other = pickle.loads(pickle.dumps(one))
    with other:
        assert other.limits == limits
        assert other.patience == 3.5
        assert other.read(other.locate(str(tmp_path / "a.txt"))) == b"words"
        assert other.locate("s3://bucket/a.png") == Location(url="s3://bucket/a.png")
        with pytest.raises(MediaError, match="outside"):
            other.locate("/etc/passwd")
        with pytest.raises(UnavailableError):
            other.read(Location(url="http://127.0.0.1:1/a.png"), once=True)
        with pytest.raises(MediaError, match="private"):
            other.read(Location(url="http://127.0.0.1:2/a.png"))

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from usl_backend.errors import (
    SettingsError,
    StudioAuthError,
    StudioError,
    StudioNotFoundError,
    StudioTroubleError,
    StudioUnreachableError,
)
from usl_backend.studio import transport
from usl_backend.studio.client import StudioClient
from usl_backend.studio.transport import ATTEMPTS, PATIENT_ATTEMPTS, Transport, token_claims

LEGACY = "0123456789abcdef0123456789abcdef01234567"
Answer = tuple[int, dict[str, str], bytes]


def token(kind: str, expires: float) -> str:
    """A JSON Web Token as Label Studio makes them, unsigned."""
    parts = [{"alg": "none"}, {"token_type": kind, "exp": int(expires)}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2ln"])


def answer(status: int, body: object = None, **headers: str) -> Answer:
    return status, headers, b"" if body is None else json.dumps(body).encode()


class Server(ThreadingHTTPServer):
    """Answers as a test says and notes what it was asked."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[tuple[str, str, str]] = []
        self.respond: Callable[[str, str], Answer] = lambda method, path: answer(200, {})


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def _handle(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
        status, headers, body = self.server.respond(self.command, self.path)
        if status == 0:
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACK_OFF", 0.001)


def script(*answers: Answer) -> Callable[[str, str], Answer]:
    """These answers one after the other, the last one for ever."""
    left = list(answers)
    return lambda method, path: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize("status", [429, 502, 503, 504, 0])
def test_request__passing_trouble_is_tried_again(server: Server, status: int) -> None:
    server.respond = script(answer(status), answer(status), answer(200, {"fine": True}))
    with Transport(server.url, LEGACY) as http:
        assert http.json("GET", "/x") == {"fine": True}
    assert len(server.asked) == 3


@pytest.mark.parametrize(("attempts", "asked"), [(1, 1), (ATTEMPTS, 1), (PATIENT_ATTEMPTS, 3)])
def test_request__only_a_run_waits_again_after_a_time_out(server: Server, attempts: int, asked: int) -> None:
    over = threading.Event()

    def never(_method: str, _path: str) -> Answer:
        over.wait(20)
        return answer(200, {})

    server.respond = never
    with (
        Transport(server.url, LEGACY, timeout=0.2, attempts=attempts) as http,
        pytest.raises(StudioUnreachableError, match=r"GET /x in time: usl-backend waits 0\.2 s here"),
    ):
        http.json("GET", "/x")
    over.set()
    assert len(server.asked) == asked


def test_request__the_observer_hears_of_every_try(server: Server) -> None:
    server.respond = script(answer(503), answer(0), answer(200, {}))
    heard: list[dict[str, Any]] = []
    with Transport(server.url, LEGACY) as http:
        http.observer = lambda **told: heard.append(told)
        http.json("GET", "/x")
    assert [(told["method"], told["status"], told["attempt"]) for told in heard] == [
        ("GET", 503, 0),
        ("GET", 0, 1),
        ("GET", 200, 2),
    ]
    # the pauses between the tries are ours and not Label Studio's
    assert all(0 < told["seconds"] < 5 for told in heard)


def test_request__attempts_are_bounded(server: Server) -> None:
    server.respond = script(answer(503, {"detail": "starting"}))
    with Transport(server.url, LEGACY) as http, pytest.raises(StudioError, match="503: starting"):
        http.json("PATCH", "/x", body={})
    assert len(server.asked) == ATTEMPTS


def test_request__500_may_pass_but_is_not_asked_for_long(server: Server) -> None:
    server.respond = script(answer(500), answer(500), answer(200, {"fine": True}))
    with Transport(server.url, LEGACY) as http:
        assert http.json("GET", "/x") == {"fine": True}
    server.respond = script(answer(500, {"detail": "database is locked"}))
    with (
        Transport(server.url, LEGACY, attempts=9) as http,
        pytest.raises(StudioTroubleError, match="locked") as caught,
    ):
        http.json("GET", "/x")
    assert (caught.value.status, len(server.asked)) == (500, 3 + 3)


def test_request__body_that_breaks_off_is_asked_for_again(server: Server) -> None:
    server.respond = script((200, {}, b'{"tasks": ['), answer(200, {"tasks": []}))
    with Transport(server.url, LEGACY) as http:
        assert http.json("GET", "/x") == {"tasks": []}
        server.respond = script((201, {}, b'{"created": '))
        with pytest.raises(StudioTroubleError, match="incomplete JSON"):
            http.json("POST", "/x", body={})
    assert [method for method, _, _ in server.asked] == ["GET", "GET", "POST"]


def test_request__what_was_never_sent_may_be_sent_again() -> None:
    """A server that is being restarted refuses connections: nothing of a POST has happened."""
    with Server() as first:
        url, port = first.url, first.server_address[1]
    late: list[Server] = []

    def listen() -> None:
        time.sleep(0.2)
        restarted = Server(port)
        late.append(restarted)
        restarted.serve_forever(poll_interval=0.01)

    thread = threading.Thread(target=listen)
    thread.start()
    with Transport(url, LEGACY, attempts=16) as http:
        assert http.json("POST", "/x", body={}) == {}
    late[0].shutdown()
    late[0].server_close()
    thread.join()


@pytest.mark.parametrize(("status", "times"), [(503, 1), (0, 1), (429, ATTEMPTS), (500, 1)])
def test_request__what_may_have_happened_is_not_repeated(server: Server, status: int, times: int) -> None:
    server.respond = script(answer(status))
    with Transport(server.url, LEGACY) as http, pytest.raises(StudioError):
        http.json("POST", "/x", body={})
    assert len(server.asked) == times


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_request__retry_after_is_obeyed(server: Server, form: str) -> None:
    # a date has whole seconds, so two ahead are at least one
    wait = "1" if form == "seconds" else formatdate(time.time() + 2.1, usegmt=True)
    server.respond = script(answer(429, Retry_After=wait), answer(200, {}))
    began = time.monotonic()
    with Transport(server.url, LEGACY) as http:
        http.json("GET", "/x")
    assert time.monotonic() - began >= 1.0


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (answer(401, {"detail": "Invalid token."}), StudioAuthError, "Legacy tokens are off by default"),
        (answer(403, {"detail": "not yours"}), StudioAuthError, "not yours.*may change the project"),
        (answer(404, {"detail": "No Project"}), StudioNotFoundError, "No Project"),
        (answer(400, {"validation_errors": {"title": ["too short"]}}), StudioError, "title.*too short"),
        (answer(302, Location="https://elsewhere/"), StudioError, "redirects.*https://elsewhere/"),
        ((200, {}, b"<html>a login page</html>"), StudioTroubleError, "incomplete JSON or something else"),
    ],
)
def test_request__refusals_say_what_to_do(
    server: Server, given: Answer, error: type[StudioError], words: str
) -> None:
    server.respond = script(given)
    with Transport(server.url, LEGACY) as http, pytest.raises(error, match=words) as caught:
        http.json("POST", "/x", body={})
    assert type(caught.value) is error
    assert LEGACY not in str(caught.value)
    assert LEGACY not in repr(http)


def test_request__nobody_there() -> None:
    with Server() as closed:
        url = closed.url
    with (
        Transport(url, LEGACY) as http,
        pytest.raises(StudioUnreachableError, match=r"Connection refused.*LABEL_STUDIO_URL"),
    ):
        http.json("GET", "/x")


def test_request__netrc_of_the_host_does_not_replace_the_token(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Transport(server.url, LEGACY) as http:
        http.json("GET", "/x")
    assert server.asked == [("GET", "/x", f"Token {LEGACY}")]


def test_authorization__many_threads_refresh_once(server: Server) -> None:
    access = token("access", time.time() + 300)
    server.respond = script(answer(200, {"access": access}))
    with Transport(server.url, token("refresh", 4e9)) as http:
        threads = [threading.Thread(target=http.authorization) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert http.authorization() == f"Bearer {access}"
    assert server.asked == [("POST", "/api/token/refresh/", "")]


def test_authorization__short_lived_token_is_renewed_every_time(server: Server) -> None:
    server.respond = script(answer(200, {"access": token("access", time.time() + 60)}))
    with Transport(server.url, token("refresh", 4e9)) as http:
        http.authorization()
        http.authorization()
    assert len(server.asked) == 2


@pytest.mark.parametrize("api_key", ["", "   ", token("access", 4e9)])
def test_transport__keys_that_cannot_work_are_refused_before_anything_is_sent(api_key: str) -> None:
    with pytest.raises(SettingsError, match="LABEL_STUDIO_API_KEY"):
        Transport("http://127.0.0.1:1", api_key)


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://host", "http://"])
def test_transport__addresses_that_cannot_work_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="LABEL_STUDIO_URL"):
        Transport(url, LEGACY)


@pytest.mark.parametrize(
    "text", ["a.b.c", LEGACY, "..", "a.!!.c", f"x.{base64.urlsafe_b64encode(b'[1]').decode()}.y"]
)
def test_token_claims__anything_else_is_no_token(text: str) -> None:
    assert token_claims(text) is None


def test_client__two_tasks_of_a_shifting_page_are_given_once(server: Server) -> None:
    rows = [
        {"id": i, "data": {"image": str(i)}, "total_annotations": 0, "cancelled_annotations": 0}
        for i in range(4)
    ]
    # Somebody imports between two pages in an order that repeats task 1.
    pages = [{"tasks": rows[:2], "total": 5}, {"tasks": rows[1:], "total": 5}]
    server.respond = script(*(answer(200, page) for page in pages))
    with StudioClient(server.url, LEGACY) as client:
        assert [task.id for task in client.tasks(1)] == [0, 1, 2, 3]


def test_client__large_pages_that_fail_are_asked_for_in_small_ones(server: Server) -> None:
    def respond(_: str, path: str) -> Answer:
        query = dict(part.split("=") for part in path.partition("?")[2].split("&"))
        size, page = int(query["page_size"]), int(query["page"])
        if size > 500:
            return answer(500, {"detail": "Expression tree is too large (maximum depth 1000)"})
        ids = range(1200)[(page - 1) * size : page * size]
        return answer(200, {"tasks": [{"id": i, "data": {}} for i in ids], "total": 1200})

    server.respond = respond
    with StudioClient(server.url, LEGACY) as client:
        assert [task.id for task in client.tasks(1)] == list(range(1200))
        assert len(server.asked) == 1 + 3, "this 500 will not pass"
        # The next time it is known; another project may have other tasks.
        assert [task.id for task in client.tasks(1)] == list(range(1200))
        assert len(server.asked) == 4 + 3
        assert len(list(client.tasks(2))) == 1200
        assert len(server.asked) == 7 + 4


def test_client__export_that_breaks_off_is_an_error(server: Server) -> None:
    server.respond = script((200, {}, b'[{"id": 1, "data": {}, "annotations": []}, {"id": 2, "da'))
    with StudioClient(server.url, LEGACY) as client:
        stream = client.labeled(1)
        assert next(stream).id == 1
        with pytest.raises(StudioError, match="was cut short"):
            next(stream)


@pytest.mark.parametrize("end", [b"", b", ", b",\n"])
def test_client__export_that_breaks_off_between_two_tasks_is_an_error(server: Server, end: bytes) -> None:
    server.respond = script((200, {}, b'[{"id": 1, "data": {}, "annotations": []}' + end))
    with StudioClient(server.url, LEGACY) as client, pytest.raises(StudioError, match="was cut short"):
        list(client.labeled(1))


@pytest.mark.parametrize(("body", "ids"), [(b"[]", []), (b' [ {"id": 1} ,\n{"id": 2}]\n', [1, 2])])
def test_client__export_that_is_complete(server: Server, body: bytes, ids: list[int]) -> None:
    server.respond = script((200, {}, body))
    with StudioClient(server.url, LEGACY) as client:
        assert [task.id for task in client.labeled(1)] == ids


def test_client__links_in_errors_lead_to_where_browsers_reach_label_studio(server: Server) -> None:
    with pytest.raises(SettingsError, match=r"create a personal .* \(http://outside.test/user/account\)"):
        StudioClient(server.url, "", browser_url="http://outside.test")
    server.respond = script((401, {}, b"{}"), (404, {}, b"{}"))
    with StudioClient(server.url, LEGACY, browser_url="http://outside.test") as client:
        with pytest.raises(StudioAuthError, match=r"token at http://outside\.test/user/account"):
            client.whoami()
        with pytest.raises(StudioNotFoundError, match=r"see http://outside\.test/projects"):
            client.project(12)

"""Any request to any route of a server with runs in every state: an answer, never a 500, one active run per project.

The short form belongs to every test run; the long one, of 10,000 requests and more: pytest -m slow tests/web.
"""

import json
import socket
import string
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from digit_run import FIRST, Made
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_fuzz import PARAMETERS, PROJECTS, TEXT, VALUES
from waitress.server import create_server

from usl_backend.jobs import Jobs
from usl_backend.report import build
from usl_backend.report.view import PLOTLY
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.doubts import Doubts, write_doubts
from usl_backend.runs.lock import held
from usl_backend.runs.suggest_job import lock_of
from usl_backend.settings import HostSettings
from usl_backend.web import create_app
from usl_backend.web.reports import EXTENSION, Reports

SHORT, LONG = 600, 10_500
"""Requests of the two forms of `test_routes__any_request`."""

ARGUMENTS = {
    "run_id": st.sampled_from(["12-1", "13-1", "14-1", "15-1", "16-1", "12-999", "0-0", "x"]) | TEXT,
    "project": st.sampled_from(["12", "13", "0", "-1", "9" * 30]),
    "task": st.sampled_from([str(FIRST), str(FIRST + 1), "0", "-1", "1e9", "9" * 30]),
    "name": st.sampled_from(["report.css", "map.js", "../app.py", "..%2f..%2fapp.py", PLOTLY]) | TEXT,
    "filename": st.sampled_from(["run.js", "../guard.py", "..%2fguard.py", "/etc/passwd", "%00"]) | TEXT,
}
QUERIES = st.dictionaries(
    st.sampled_from(
        [
            "a",
            "b",
            "project",
            "state",
            "limit",
            "role",
            "format",
            "media",
            "page",
            "include_labeled",
            "control",
            "target",
            "suggested",
            "min_confidence",
        ]
    )
    | TEXT,
    st.sampled_from(
        [
            "12",
            "1",
            "done",
            "pick",
            "json",
            "csv",
            "torch",
            "none",
            "copy",
            "true",
            "-1",
            "9" * 40,
            "0.9",
            "nan",
        ]
    )
    | TEXT,
    max_size=3,
)
BODIES: dict[str, st.SearchStrategy[Any]] = {
    "/setup": st.fixed_dictionaries(
        {
            "project": PROJECTS,
            "schema": VALUES,
            "extra_params": VALUES | PARAMETERS | PARAMETERS.map(json.dumps),
        }
    ),
    "/webhook": st.fixed_dictionaries(
        {
            "action": st.just("START_TRAINING") | VALUES,
            "project": VALUES | st.fixed_dictionaries({"id": PROJECTS}),
        }
    ),
    "/predict": st.fixed_dictionaries({"tasks": VALUES}),
    **dict.fromkeys(
        [f"/usl/api/projects/<int:project>/{kind}" for kind in ("pins", "exclusions", "queue", "similar")],
        st.fixed_dictionaries(
            {"tasks": VALUES | st.lists(st.integers(-1, 10**20), max_size=3)},
            optional={"task": VALUES, "dry_run": VALUES},
        ),
    ),
    "/usl/api/runs": PARAMETERS.flatmap(lambda p: PROJECTS.map(lambda project: {**p, "project": project})),
}
HEADERS = st.dictionaries(
    st.sampled_from(["Accept", "Origin", "Referer", "Sec-Fetch-Site", "If-None-Match", "Range", "Authorization",
                     "Accept-Encoding", "Host", "X-Forwarded-Host", "Content-Encoding"]),
    st.sampled_from(["text/html", "*/*", "null", "same-origin", "http://localhost", "bytes=0-5", "Basic dTpw", "gzip",
                     "localhost:9090", "evil.example", "W/\"x\"", ""])
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    max_size=3,
)  # fmt: skip
KINDS = st.sampled_from(
    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain", ""]
)


@dataclass(frozen=True)
class Site:
    """The app before runs in every state, and how often each route was asked."""

    client: FlaskClient
    store: RunStore
    rules: list[tuple[str, str]]
    asked: dict[str, set[int]] = field(default_factory=dict)


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
    """Label Studio is not there: its address is a port where nobody listens, asked without pauses."""
    monkeypatch.setattr("usl_backend.studio.transport.BACK_OFF", 0.0001)
    for jobs in ("suggesting", "tending"):
        monkeypatch.setattr(f"usl_backend.jobs.{jobs}.COMMAND", ("true",))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        made = Made(tmp_path / "data", 60, budget=6)
        build(made.run, made.files)
        write_doubts(made.files, Doubts("12-1", (), (), judged=0, unjudged=0, reason="", read_at=0.0))
        settings = dict(made.run.settings)
        for project in (13, 14, 15, 16):
            made.store.create(project=project, settings=settings)
        made.store.cancel("14-1")
        made.store.fail("15-1", "StudioError", "no answer <script>alert(1)</script>")
        made.store.claim("16-1")
        host = HostSettings(
            label_studio_url=address, label_studio_api_key="x" * 40, model_dir=made.store.directory
        )
        app = create_app(host, Jobs(made.store, host))
        reports = Reports(host, made.store, command=("false",))
        app.extensions[EXTENSION] = reports
        rules = [
            (method, rule.rule)
            for rule in app.url_map.iter_rules()
            for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"})
        ]
        assert len(rules) > 25
        yield Site(app.test_client(), made.store, rules)
        reports.close()
        made.store.close()


@st.composite
def requests(draw, rules):
    """A request that some route might take seriously, and then less and less so."""
    method, rule = draw(st.sampled_from(rules))
    path = "/".join(
        quote(
            draw(ARGUMENTS[part.rpartition(":")[2].strip("<>")]).encode("utf-8", "surrogatepass"), safe="%/."
        )
        if part.startswith("<")
        else part
        for part in rule.split("/")
    )
    if draw(st.integers(0, 19)) == 0:
        path += quote(draw(st.text(string.printable, max_size=8)))
    if draw(st.integers(0, 9)) == 0:
        method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]))
    body = draw(
        BODIES.get(rule, st.just({})).map(lambda value: json.dumps(value).encode())
        if draw(st.integers(0, 9))
        else st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode())
    )
    kind = draw(KINDS) if draw(st.integers(0, 4)) == 0 else "application/json"
    query = {
        key.encode("utf-8", "replace"): value.encode("utf-8", "replace")
        for key, value in draw(QUERIES).items()
    }
    headers = draw(HEADERS) if draw(st.integers(0, 2)) == 0 else {}
    return rule, {
        "method": method,
        "path": path or "/",
        "query_string": "&".join(f"{quote(key)}={quote(value)}" for key, value in query.items()),
        "data": body if method not in ("GET", "HEAD") else None,
        "content_type": kind or None,
        "headers": headers,
    }


def send(site: Site, rule: str, sent: dict[str, Any]) -> None:
    """Ask, and check what holds for every answer."""
    answer = site.client.open(**sent, buffered=True)
    status = answer.status_code
    site.asked.setdefault(rule, set()).add(status)
    # 502 and 503 are true: Label Studio is not there, and so the server is not ready
    known = {"export": 502, "thumbnail": 502, "projects/": 502, "readyz": 503}
    true = {status for word, status in known.items() if word in sent["path"]}
    assert status < 500 or status in true, (sent, answer.text)
    assert "Traceback" not in answer.text
    assert answer.mimetype != "text/html" or "<script>alert" not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    if status >= 400 and answer.is_json and answer.data and "readyz" not in sent["path"]:
        assert answer.json["error"]["message"]
        assert answer.json["error"]["type"] != "InternalError"
    active = [run.project for run in site.store.list(limit=100_000) if run.state.is_active]
    assert len(active) == len(set(active))
    assert site.store.get("12-1").state is RunState.DONE


def fuzz(site: Site, count: int) -> None:
    """Send so many requests."""

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(request=requests(site.rules))
    def run(request):
        send(site, *request)

    run()


def test_routes__any_request(site):
    fuzz(site, SHORT)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_routes__any_request_long(site, capsys):
    fuzz(site, LONG)
    assert set(site.asked) == {rule for _, rule in site.rules}
    with capsys.disabled():
        lines = [f"{rule:55} {sorted(statuses)}" for rule, statuses in sorted(site.asked.items())]
        sys.stdout.write("\n".join(["", *lines, ""]))


def test_routes__each_can_succeed(site):
    """Otherwise the fuzzer would only ever knock at closed doors."""
    token = site.client.application.jinja_env.globals["form_token"]
    form = {"form_token": token, "run": "12-1", "confirm": "12"}
    closed = {
        "/usl/api/runs/<run_id>/export",
        "/usl/api/runs/<run_id>/thumbnail/<int:task>",
        "/usl/api/runs/<run_id>/picture/<int:task>",
        "/usl/api/projects/<int:project>",
        "/readyz",
        # change something in Label Studio, or need a second run: test_steering.py, test_compare_pages.py
        "/usl/api/projects/<int:project>/accuracy",
        "/usl/api/projects/<int:project>/pins",
        "/usl/api/projects/<int:project>/exclusions",
        "/usl/api/projects/<int:project>/queue",
        "/usl/api/projects/<int:project>/similar",
        "/usl/compare",
        "/usl/api/compare",
    }
    assert closed <= {rule for _, rule in site.rules}
    bodies = {
        "/setup": {"project": "20.5", "schema": "<View/>"},
        "/webhook": {"action": "START_TRAINING", "project": {"id": 21}},
        "/predict": {"tasks": [{}]},
        "/usl/api/runs": {"project": 22},
    }
    for method, rule in site.rules:
        run = {"cancel": "13-1", "resume": "14-1"}.get(rule.rpartition("/")[2], "12-1")
        if rule.startswith("/usl/api") and rule.endswith(("cancel", "resume")):
            run = {"cancel": "14-1", "resume": "15-1"}[rule.rpartition("/")[2]]
        path = rule.replace("<run_id>", run).replace("<int:task>", str(FIRST)).replace("<name>", "report.css")
        path = path.replace("<path:filename>", "run.js").replace("<int:project>", "12")
        is_form = method == "POST" and rule.startswith("/usl/") and not rule.startswith("/usl/api")
        body = {"data": form} if is_form else {"json": bodies.get(rule, {})} if method == "POST" else {}
        query = {"project": 12} if rule in ("/versions", "/usl/projects") else {}
        files = site.store.files("12-1")
        while held(lock_of(files)) or held(lock_of(files, "tend")):  # what was asked for before
            time.sleep(0.01)
        if (active := site.store.active(project=12)) is not None:
            site.store.cancel(active.id)
        answer = site.client.open(path, method=method, query_string=query, buffered=True, **body)
        refused = rule in closed and answer.status_code in (400, 404, 409, 502, 503)
        assert answer.status_code < 400 or refused, (method, path, answer.status_code, answer.text)


RAW = st.lists(
    st.sampled_from(
        [b"GET ", b"POST ", b"/health", b"/setup", b" HTTP/1.1\r\n", b" HTTP/9.9\r\n", b"Host: localhost\r\n",
         b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999\r\n",
         b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"\r\n", b"0\r\n\r\n", b"zz\r\n", b"{}", b"\n"]
    )
    | st.binary(max_size=20),
    max_size=12,
)  # fmt: skip


@pytest.fixture
def raw(site):
    """The same app behind the server that really serves it."""
    server = create_server(site.client.application, host="127.0.0.1", port=0, threads=4, channel_timeout=5)

    def run():
        with suppress(
            OSError
        ):  # its socket is closed under its feet: there is no other way to end it from outside
            server.run()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield server.effective_port
    server.close()
    thread.join(10)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=RAW)
def test_socket__any_bytes(raw, pieces):
    with socket.create_connection(("127.0.0.1", raw), timeout=60) as caller:
        caller.sendall(b"".join(pieces))
        caller.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := caller.recv(65_536):  # its end is what must come, within the time-out
            answer += piece
    assert not answer.startswith((b"HTTP/1.1 500", b"HTTP/1.0 500"))
    with socket.create_connection(("127.0.0.1", raw), timeout=60) as caller:
        caller.sendall(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.0 200")

import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest

from usl_backend.errors import (
    ActiveRunError,
    InputError,
    RunError,
    SettingsError,
    StudioAuthError,
    UnknownRunError,
    USLError,
)
from usl_backend.web.errors import reason_phrase, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SettingsError("x"), 400),
        (InputError("x"), 400),
        (UnknownRunError("x"), 404),
        (ActiveRunError("x", run_id="12-1"), 409),
        (RunError("x"), 409),
        (StudioAuthError("x"), 502),
        (USLError("x"), 500),
        (ValueError("x"), 500),
    ],
)
def test_status_of__each_family(error, status):
    assert status_of(error) == status


@pytest.mark.parametrize(
    ("message", "phrase"),
    [
        ("plain", "plain"),
        ("two\r\nSet-Cookie: x", "two Set-Cookie: x"),
        ("größe → 5", "gr??e ? 5"),
        ("tab\tand \x00 nul", "tab and ? nul"),
        ("", "Bad Request"),
        ("x" * 1000, "x" * 400),
    ],
)
def test_reason_phrase__is_one_printable_line(message, phrase):
    assert reason_phrase(message, 400) == phrase


def test_unforeseen__is_a_sentence_without_a_trace(client, jobs, monkeypatch, caplog):
    def broken(*_args, **_named):
        raise ZeroDivisionError("by zero in secret place")

    monkeypatch.setattr(type(jobs), "start_training", broken)
    answer = client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 12}})
    assert answer.status_code == 500
    assert answer.json["error"]["type"] == "InternalError"
    assert "secret place" not in answer.text
    assert "secret place" in caplog.text


def test_unknown_path_and_wrong_method__are_json(client):
    assert client.get("/nowhere").json["error"]["type"] == "NotFound"
    answer = client.get("/webhook")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


@pytest.fixture
def studio(monkeypatch):
    """Label Studio as the probe sees it; `asked` counts."""
    state = SimpleNamespace(up=True, asked=0)

    def is_reachable(url):
        assert url == "http://localhost:8080"
        state.asked += 1
        return state.up

    monkeypatch.setattr("usl_backend.studio.reach.is_reachable", is_reachable)
    return state


def test_readyz__tells_what_is_missing(client, jobs, studio):
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (503, "not ready")
    assert [name for name, well in answer.json["checks"].items() if not well] == ["supervisor"]
    jobs.start()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (200, "ok")
    assert set(answer.json["checks"]) == {"database", "disk", "supervisor", "label_studio", "weights"}


def test_readyz__label_studio_is_not_asked_at_every_call(client, jobs, studio, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("usl_backend.web.watch.time.monotonic", lambda: now[0])
    studio.up = False
    for _ in range(5):
        assert client.get("/readyz").json["checks"]["label_studio"] is False
    assert studio.asked == 1
    studio.up, now[0] = True, 1011.0
    assert client.get("/readyz").json["checks"]["label_studio"] is True
    assert studio.asked == 2


@pytest.mark.parametrize("missing", ["weights", "disk", "database"])
def test_readyz__each_lack_is_named(client, store, studio, monkeypatch, missing):
    if missing == "weights":
        monkeypatch.setattr("usl_backend.encoders.presence.find_spec", lambda _: None)
    elif missing == "disk":
        monkeypatch.setattr("usl_backend.web.probes.LEAST_FREE", 2**80)
    else:
        with closing(sqlite3.connect(store.path)) as sql:
            sql.execute("DROP TABLE runs")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"][missing] is False


def test_livez__always(client):
    assert client.get("/livez").json == {"status": "ok"}

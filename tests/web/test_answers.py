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


def test_readyz__tells_what_is_missing(client, jobs):
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json["checks"]["supervisor"] is False
    assert answer.json["checks"]["database"] is True
    jobs.start()
    assert client.get("/readyz").status_code == 200


def test_livez__always(client):
    assert client.get("/livez").json == {"status": "ok"}

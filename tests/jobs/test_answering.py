"""Answers that a child process computes; with a real Label Studio: tests/live/test_control_set.py."""

import io
import json

import pytest

from usl_backend.errors import InputError, RunError, StudioError
from usl_backend.jobs import answering
from usl_backend.jobs.answering import AccuracyRequest, ArchiveRequest
from usl_backend.runs import RunStore
from usl_backend.settings import HostSettings


@pytest.fixture
def host(tmp_path):
    return HostSettings(model_dir=tmp_path, label_studio_api_key="tok-secret-123")


@pytest.fixture
def run(tmp_path):
    store = RunStore(tmp_path)
    yield store.create(project=12, settings={})
    store.close()


def test_accuracy_of_run__error_of_the_child_comes_back_as_its_class(host, run):
    with pytest.raises(RunError, match=f"run {run.id} is queued, not done"):
        answering.accuracy_of_run(host, run, AccuracyRequest())
    assert answering._ONE.acquire(blocking=False), "the next one is answered"
    answering._ONE.release()


def test_archive_of_run__only_one_at_a_time(host, run):
    with answering._ONE, pytest.raises(RunError, match="ask again when that is answered"):
        answering.archive_of_run(host, run, ArchiveRequest(suggested=True))


def test_archive_of_run__child_that_dies(host, run, monkeypatch):
    monkeypatch.setattr(answering, "COMMAND", ("sh", "-c", "echo half an archive; kill -9 $$"))
    with pytest.raises(RunError, match="ended with -9"):
        answering.archive_of_run(host, run, ArchiveRequest(suggested=True))


@pytest.mark.parametrize(
    ("kind", "as_what"),
    [("StudioTroubleError", StudioError), ("SettingsError", InputError), ("ActiveRunError", RunError)],
)
def test_told__nearest_class_that_takes_a_message(kind, as_what):
    error = answering._told(json.dumps({"type": kind, "message": "so it is"}).encode(), 1)
    assert isinstance(error, as_what)
    assert str(error) == "so it is"


def test_answer_in_child__error_replaces_what_was_written(host, run, monkeypatch):
    def dies(stream, *_, **__):
        stream.write(b"half of a very long archive" * 100)
        raise InputError("no more with tok-secret-123")

    monkeypatch.setattr(answering, "write_archive", dies)
    stream = io.BytesIO()
    asked = {"run": run.id, "what": "archive", "request": {}}
    assert answering.answer_in_child(asked, stream, host) == 1
    assert json.loads(stream.getvalue()) == {"type": "InputError", "message": "no more with ***"}

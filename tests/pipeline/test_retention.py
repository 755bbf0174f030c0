import json
from pathlib import Path

import pytest

from usl_backend.pipeline.retention import collect
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.lock import Lock


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


def finished(store: RunStore, project: int, state: RunState, *, dry_run: bool = False) -> str:
    run = store.create(project=project, project_key=f"{project}.1", settings={}, dry_run=dry_run)
    (store.files(run.id).directory / "pool.npz").write_bytes(b"x" * 100)
    if state is not RunState.QUEUED:
        store.claim(run.id)
    if state is RunState.DONE:
        store.finish(run.id, {"project": {"key": f"{project}.1"}})
    elif state is RunState.FAILED:
        store.fail(run.id, "RunError", "no")
    return run.id


def left(store: RunStore) -> set[str]:
    return {path.name for path in (store.directory / "runs").iterdir()}


def test_collect__newest_active_completed_and_published_runs_stay(store: RunStore) -> None:
    published = finished(store, 1, RunState.DONE)
    store.save_queue_state("1.1", {"run_id": published})
    finished(store, 1, RunState.DONE)
    completed = finished(store, 1, RunState.DONE)
    finished(store, 1, RunState.DONE, dry_run=True)
    finished(store, 1, RunState.FAILED)
    newest = finished(store, 1, RunState.FAILED)
    other = finished(store, 2, RunState.QUEUED)
    finished_before = left(store)
    removed = collect(store, keep=1, dry_run=True)
    assert left(store) == finished_before
    assert collect(store, keep=1) == removed
    assert [(path.name, size) for path, size in removed] == [("1-2", 100), ("1-4", 100), ("1-5", 100)]
    assert left(store) == {published, completed, newest, other}
    assert len(store.list()) == 7


def test_collect__directory_at_work_stays_and_strays_go(store: RunStore) -> None:
    stray = store.directory / "runs" / "9-9"
    stray.mkdir()
    busy = store.files("9-8")
    with Lock(busy.lock):
        assert [path for path, _ in collect(store, keep=5)] == [stray]
    assert [path for path, _ in collect(store, keep=5)] == [busy.directory]


def test_collect__embeddings_go_only_when_asked_and_idle(store: RunStore) -> None:
    shard = store.directory / "embeddings" / "lite0" / "0.json"
    shard.parent.mkdir(parents=True)
    shard.write_text(json.dumps({}))
    assert collect(store, keep=1) == []
    active = finished(store, 1, RunState.QUEUED)
    assert collect(store, keep=1, cache=True) == []
    store.cancel(active)
    assert collect(store, keep=1, cache=True) == [(store.directory / "embeddings", 2)]
    assert not shard.exists()

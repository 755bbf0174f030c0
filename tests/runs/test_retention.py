import json
import os
from pathlib import Path

import pytest

from usl_backend.instances import QueueState
from usl_backend.runs import Run, RunState, RunStore
from usl_backend.runs.lock import Lock
from usl_backend.runs.retention import collect, tidy, trim
from usl_backend.runs.summary import ProjectNote, Summary


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


def finished(store: RunStore, project: int, state: RunState, *, dry_run: bool = False) -> str:
    run = store.create(project=project, project_key=f"{project}.1", settings={}, dry_run=dry_run)
    (store.files(run.id).directory / "pool.npz").write_bytes(b"x" * 100)
    if state is not RunState.QUEUED:
        store.claim(run.id)
    if state is RunState.DONE:
        store.finish(run.id, Summary(project=ProjectNote(key=f"{project}.1")))
    elif state is RunState.FAILED:
        store.fail(run.id, "RunError", "no")
    return run.id


def left(store: RunStore) -> set[str]:
    return {path.name for path in (store.directory / "runs").iterdir()}


def test_collect__newest_active_completed_and_published_runs_stay(store: RunStore) -> None:
    published = finished(store, 1, RunState.DONE)
    state = QueueState(published, "usl-1-1", "Uncertainty sampling", 3, None, "Sequential sampling", None)
    store.save_queue_state("1.1", state)
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
    assert {run.id for run in store.list()} == {published, completed, newest, other}
    # a number is not given again, also not that of a run nobody remembers
    assert store.create(project=1, settings={}).id == "1-7"


def test_collect__directory_at_work_stays_and_strays_go(store: RunStore) -> None:
    stray = store.directory / "runs" / "9-9"
    stray.mkdir()
    busy = store.files("9-8")
    with Lock(busy.lock):
        assert [path for path, _ in collect(store, keep=5)] == [stray]
    assert [path for path, _ in collect(store, keep=5)] == [busy.directory]


def test_collect__runs_resumed_or_created_meanwhile_keep_their_files(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed, over, newest = (finished(store, 1, RunState.FAILED) for _ in range(3))

    def measured(path: Path) -> int:
        if path.name == resumed:
            store.resume(resumed)
        return 100

    def listed(**options: object) -> list[Run]:
        monkeypatch.undo()
        monkeypatch.setattr("usl_backend.runs.retention.bytes_of", measured)
        runs = store.list(**options)
        store.files(store.create(project=2, settings={}).id)
        return runs

    monkeypatch.setattr(store, "list", listed)
    assert [path.name for path, _ in collect(store, keep=1)] == [over]
    assert left(store) == {resumed, newest, "2-1"}
    assert {run.id: run.state.value for run in store.list()} == {
        resumed: "queued",
        newest: "failed",
        "2-1": "queued",
    }


@pytest.mark.parametrize("name", ["lock", "suggest.lock", "tend.lock"])
def test_collect__run_that_a_process_works_on_stays(store: RunStore, name: str) -> None:
    old, newest = (finished(store, 1, RunState.FAILED) for _ in range(2))
    with Lock(store.files(old).directory / name):
        assert collect(store, keep=1) == []
    assert {run.id for run in store.list()} == {old, newest}


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


def test_collect__embeddings_that_are_linked_from_another_disk(store: RunStore, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "lite0").mkdir(parents=True)
    (disk / "lite0" / "0.json").write_text("{}")
    (disk / "note").write_text("!")
    link = store.directory / "embeddings"
    link.symlink_to(disk)
    assert collect(store, keep=1, cache=True) == [(link, 3)]
    assert link.is_symlink(), "the next run finds the disk again"
    assert list(disk.iterdir()) == []


def shard(store: RunStore, encoder: str, number: int, *, age: int, size: int = 1000) -> Path:
    folder = store.directory / "embeddings" / encoder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.npy").write_bytes(b"x" * (size - 10))
    (folder / f"{number}.json").write_bytes(b"x" * 10)
    for suffix in (".npy", ".json"):
        os.utime(folder / f"{number}{suffix}", (1_700_000_000 - age, 1_700_000_000 - age))
    return folder / f"{number}.json"


def test_trim__oldest_shards_of_all_encoders_go_until_the_rest_fits(store: RunStore) -> None:
    young = [shard(store, "a", 0, age=1), shard(store, "b", 0, age=2)]
    old = [shard(store, "a", 1, age=3), shard(store, "b", 1, age=4)]
    assert trim(store, limit=4000) == []
    assert trim(store, limit=2500) == [(old[1], 1000), (old[0], 1000)]
    assert sorted((store.directory / "embeddings").rglob("*.*")) == sorted(
        [*young, *(path.with_suffix(".npy") for path in young)]
    )
    assert trim(store, limit=0) == [(young[1], 1000), (young[0], 1000)]


def test_trim__nothing_while_a_run_may_read(store: RunStore) -> None:
    shard(store, "a", 0, age=1)
    active = finished(store, 1, RunState.QUEUED)
    assert trim(store, limit=0) == []
    store.cancel(active)
    assert len(trim(store, limit=0)) == 1


def test_tidy__what_goes_wrong_fails_nobody(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        finished(store, 1, RunState.FAILED)
    tidy(store, keep=2, cache_bytes=0)
    assert left(store) == {"1-2", "1-3"}

    def refuse(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("usl_backend.runs.retention.shutil.rmtree", refuse)
    tidy(store, keep=1, cache_bytes=0)
    assert "usl-backend gc" in caplog.text
    assert left(store) == {"1-2", "1-3"}


def test_forget__active_runs_are_not_forgotten(store: RunStore) -> None:
    run = finished(store, 1, RunState.QUEUED)
    assert not store.forget(run)
    store.cancel(run)
    assert store.forget(run)
    assert store.list() == []

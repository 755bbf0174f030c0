import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from usl_backend.cli import main
from usl_backend.instances import Instance, Pool
from usl_backend.runs import RunStore
from usl_backend.runs.inventory import Inventory
from usl_backend.runs.lock import Lock
from usl_backend.runs.serving import announce
from usl_backend.runs.summary import PoolNote, ProjectNote, Summary, Tab

Told = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    return RunStore(tmp_path)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setenv("COLUMNS", "160")

    def tell(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        written = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, written.out, written.err

    return tell


SUMMARY = Summary(
    pool=PoolNote(readable=300),
    picks=10,
    reserve=20,
    tab=Tab(4, "http://localhost:8080/projects/12/data?tab=4"),
    seconds={"fetch": 0.5, "embed": 3.1},
    warnings=("2 of 302 unlabeled tasks could not be read",),
)


def test_status__no_runs_says_how_to_make_one(store: RunStore, told: Told) -> None:
    code, out, _ = told("status")
    assert (code, "no runs yet; start one with `usl-backend select TARGET`" in out) == (0, True)


@pytest.mark.parametrize("verb", [("status",), ("doubts", "12")])
def test_limit__none_and_fewer_are_refused(store: RunStore, told: Told, verb: tuple[str, ...]) -> None:
    for limit in ("0", "-1"):
        code, _, err = told(*verb, "--limit", limit)
        assert (code, "is not in the range x>=1" in err) == (2, True)


def test_status__newest_first_and_interrupted_runs_are_told_from_running_ones(
    store: RunStore, told: Told
) -> None:
    done = store.create(project=12, settings={"budget": "10", "method": "usl"}, dry_run=True)
    store.claim(done.id)
    store.finish(done.id, SUMMARY)
    running, dead = (store.claim(store.create(project=project, settings={}).id) for project in (13, 14))
    store.progress(running.id, "embed", 7, 300)
    with Lock(store.files(running.id).lock):
        code, out, _ = told("status")
        lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert [line[:2] for line in lines[4:]] == [
        [dead.id, "interrupted"],
        [running.id, "running"],
        [done.id, "(dry)"],
    ]
    assert "embed 7/300" in out
    assert [run["id"] for run in json.loads(told("status", "12", "--json")[1])] == [done.id]


@pytest.mark.parametrize("width", [50, 79, 200])
def test_status__table_fits_the_terminal_and_names_the_project(
    store: RunStore, told: Told, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    run = store.claim(store.create(project=12, settings={"budget": "10", "method": "usl"}).id)
    store.finish(run.id, dataclasses.replace(SUMMARY, project=ProjectNote(12, title="Animals of the wood")))
    table = [line for line in told("status", "12")[1].splitlines() if line]
    assert [line.split()[0] for line in table] == ["run", run.id]
    assert all(len(line) <= width for line in table)
    assert "Animals of the" in table[1]
    assert ("usl" in table[1]) == (width == 200)


def test_status__the_whole_directory_at_a_glance(store: RunStore, told: Told) -> None:
    assert "not running; `usl-backend serve`" in told("status")[1]
    for project, message in enumerate(["first", "second", "third", "no answer from Label Studio"], start=1):
        store.fail(store.create(project=project, settings={}).id, "StudioError", message)
    store.create(project=9, settings={})
    store.files("1-1").log.write_bytes(b"x" * 3000)
    shard = store.directory / "embeddings" / "lite0" / "0.npy"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(b"x" * 5_000_000)
    with Lock(store.directory / "server.lock"):
        assert "pages" not in told("status")[1], "the server of another framework has none"
        announce(store.directory, "http://127.0.0.1:47011")
        code, out, _ = told("status")
        seen = json.loads(told("status", "--json")[1])
    assert "pages" not in told("status")[1]
    assert code == 0
    assert f"process {os.getpid()}" in out
    assert "pages       http://127.0.0.1:47011/usl/" in out
    assert "4 failed, 1 queued" in out
    assert "3 KiB of runs, 5 MiB of at most 20.0 GiB of embeddings" in out
    assert [line.partition(": ")[2] for line in out.splitlines() if line.startswith("last error")] == [
        "no answer from Label Studio",
        "third",
        "second",
    ]
    assert (seen["server"], seen["runs"]) == (os.getpid(), {"failed": 4, "queued": 1})
    assert seen["pages"] == "http://127.0.0.1:47011/usl"
    assert seen["bytes_in_embeddings"] == 5_000_000
    assert seen["installation"] == store.installation
    assert seen["errors"][0]["run"] == "4-1"
    assert seen["list"][0]["id"] == "9-1"


def test_status__one_run_with_its_unreadable_tasks(store: RunStore, told: Told) -> None:
    run = store.claim(store.create(project=12, settings={"budget": "10"}).id)
    files = store.files(run.id)
    inventory = Inventory(12, "12.1", "t", labeled=(3,), skipped={9: '"image" is empty'})
    files.write_instances([Instance(1, "image", "a.png")], inventory)
    pool = Pool(
        np.array([1]), np.ones((1, 2), np.float32), {2: "the file is empty (0 bytes)", 3: "labeled anyway"}
    )
    files.write_pool(pool, ["00" * 32])
    store.finish(run.id, SUMMARY)
    assert "page:" not in told("status", run.id)[1], "no server runs"
    with Lock(store.directory / "server.lock"):
        announce(store.directory, "http://127.0.0.1:47011")
        code, out, _ = told("status", run.id)
    assert code == 0
    assert out.splitlines()[0] == f"run {run.id}: done"
    assert "chose 10 of 300 tasks, 20 in reserve" in out
    assert "tab: http://localhost:8080/projects/12/data?tab=4" in out
    assert f"page: http://127.0.0.1:47011/usl/runs/{run.id}" in out
    assert "warning: 2 of 302 unlabeled tasks could not be read" in out
    assert out.splitlines()[-3:] == [
        "2 unreadable tasks:",
        "  2  the file is empty (0 bytes)",
        '  9  "image" is empty',
    ]


def test_status__failed_run_says_why(store: RunStore, told: Told) -> None:
    run = store.create(project=12, settings={})
    store.fail(run.id, "InputError", "project 12 has no tasks")
    assert "error: project 12 has no tasks" in told("status", run.id)[1]


@pytest.mark.parametrize(
    ("target", "said"),
    [("99-1", 'there is no run "99-1"'), ("twelve", "'twelve' is not a project with runs")],
)
def test_status__unknown_target_is_named(store: RunStore, told: Told, target: str, said: str) -> None:
    code, _, err = told("status", target)
    assert code == 1
    assert err.startswith(f"error: {said}")


def test_cancel__queued_run_and_then_never_again(store: RunStore, told: Told) -> None:
    run = store.create(project=12, settings={})
    assert told("cancel", run.id)[:2] == (
        0,
        f"run {run.id} is cancelled; `usl-backend resume {run.id}` continues it\n",
    )
    assert store.get(run.id).state == "cancelled"
    code, _, err = told("cancel", run.id)
    assert code == 1
    assert err.startswith(f"error: run {run.id} is cancelled; only a queued or running run")


def test_gc__says_what_it_would_do_and_then_does_it(store: RunStore, told: Told) -> None:
    for _ in range(3):
        run = store.create(project=12, settings={})
        (store.files(run.id).directory / "pool.npz").write_bytes(b"x" * 2048)
        store.fail(run.id, "RunError", "no")
    oldest = store.run_directory("12-1")
    assert told("gc", "--keep", "2", "--dry-run")[1].splitlines() == [f"{oldest}  2 KiB", "would free 2 KiB"]
    assert oldest.exists()
    assert json.loads(told("gc", "--keep", "2", "--json")[1]) == {"removed": [str(oldest)], "bytes": 2048}
    assert sorted(path.name for path in (store.directory / "runs").iterdir()) == ["12-2", "12-3"]

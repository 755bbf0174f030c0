"""A disk that is full, read-only or lies, under a real server with a real run: what is said, and that it goes on."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from live_studio import LiveProject, LiveStudio
from shell import Shell, local

from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.studio_server import free_port
from usl_backend.embedding.shards import load_rows
from usl_backend.errors import RunError
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.lock import held
from usl_backend.runs.retention import CACHE
from usl_backend.studio.preannotations import predictions

MakeProject = Callable[..., LiveProject]
TASKS, BUDGET, RESERVE = 120, 8, 4
ROOM = 160 * 2**20
"""Bytes of the small disk; less than 100 MiB free is not /readyz."""


class SmallDisk:
    """A directory whose room and rights the test decides: a tmpfs where we may mount, else limits of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(path)]
        self.mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0

    def fill(self, server: BackendServer) -> None:
        """Leave less room than the embeddings need."""
        if self.mounted:
            filler = self.path / "filler"
            filler.write_bytes(b"x" * max(0, shutil.disk_usage(self.path).free - 200 * 2**10))
        else:
            self._limit(server, 250 * 2**10)

    def free(self, server: BackendServer) -> None:
        if self.mounted:
            (self.path / "filler").unlink()
        else:
            self._limit(server, resource.RLIM_INFINITY)

    def set_writable(self, folder: Path, writable: bool) -> None:
        """Take or give back the right to write below a folder; files that are open already stay open."""
        if not self.mounted:
            folder.chmod(0o700 if writable else 0o500)
        elif writable:
            subprocess.run(["umount", str(folder)], check=True)
        else:
            subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.path)], check=True)

    @staticmethod
    def _limit(server: BackendServer, size: int) -> None:
        assert server.process_id is not None
        resource.prlimit(server.process_id, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "small")
    yield disk
    disk.close()


@pytest.fixture
def project(make_project: MakeProject, pictures: list[str]) -> LiveProject:
    return make_project(data=[local(name) for name in pictures[:TASKS]])


@pytest.fixture
def expected(shell: Shell, project: LiveProject) -> list[int]:
    """The queue of an undisturbed run."""
    told = shell("select", project.id, "--budget", BUDGET, "--reserve", RESERVE, "--dry-run", "--json")
    assert told.code == 0, told.err
    return [entry["task"] for entry in told.json["queue"]]


def backend(studio: LiveStudio, data: Path) -> BackendServer:
    environment = {"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(studio.documents_root)}
    return BackendServer(
        data, studio_url=studio.url, api_key=studio.token, port=free_port(), environment=environment
    )


def started(server: BackendServer, project: LiveProject) -> str:
    body = {"project": project.id, "budget": BUDGET, "reserve": RESERVE}
    answer = requests.post(f"{server.url}/usl/api/runs", json=body, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def assert_done(store: RunStore, run_id: str, project: LiveProject, expected: list[int]) -> None:
    run = store.get(run_id)
    assert run.state is RunState.DONE, run.error
    entries = store.files(run_id).read_published().queue.places
    assert [entry.instance for entry in entries] == expected
    version = project.now.model_version
    there = [one for one in predictions(project.client, project.id) if one.model_version == version]
    assert Counter(one.task for one in there) == Counter(expected)


def test_full_disk__pauses_and_goes_on_when_there_is_room(
    label_studio: LiveStudio, disk: SmallDisk, project: LiveProject, expected: list[int], wait_until: Any
) -> None:
    with backend(label_studio, disk.path) as server:
        store = RunStore(disk.path)
        disk.fill(server)
        run_id = started(server, project)
        wait_until(lambda: not store.get(run_id).state.is_active, seconds=240)
        run = store.get(run_id)
        assert (run.state, run.error["type"]) == (RunState.PAUSED, "StorageError"), run.error
        assert "free some disk space" in run.error["message"]
        assert project.model_versions() == {}
        assert requests.get(f"{server.url}/health", timeout=60).status_code == 200
        disk.free(server)
        assert requests.post(f"{server.url}/usl/api/runs/{run_id}/resume", timeout=60).status_code == 200
        wait_until(lambda: not store.get(run_id).state.is_active, seconds=240)
        assert_done(store, run_id, project, expected)
        store.close()


def test_read_only_directory__is_said_and_survived(
    label_studio: LiveStudio, disk: SmallDisk, project: LiveProject, expected: list[int], wait_until: Any
) -> None:
    with backend(label_studio, disk.path) as server:
        store = RunStore(disk.path)
        runs = disk.path / "runs"
        disk.set_writable(runs, False)
        try:
            run_id = started(server, project)
            wait_until(lambda: not store.get(run_id).state.is_active)
        finally:
            disk.set_writable(runs, True)
        run = store.get(run_id)
        assert run.state is RunState.PAUSED
        assert "cannot be started" in run.error["message"]
        assert requests.get(f"{server.url}/health", timeout=60).status_code == 200
        assert requests.post(f"{server.url}/usl/api/runs/{run_id}/resume", timeout=60).status_code == 200
        wait_until(lambda: not store.get(run_id).state.is_active, seconds=240)
        assert_done(store, run_id, project, expected)
        store.close()


def test_read_only_directory__is_refused_at_the_start(label_studio: LiveStudio, disk: SmallDisk) -> None:
    disk.set_writable(disk.path, False)
    server = backend(label_studio, disk.path)
    server.log_path = disk.path.with_name("backend.log")
    try:
        with pytest.raises(RunError, match="cannot be used") as refused, server:
            pass
        assert "Traceback" not in str(refused.value)
    finally:
        disk.set_writable(disk.path, True)


def test_corrupted_files__are_found_and_computed_again(
    label_studio: LiveStudio, tmp_path: Path, project: LiveProject, expected: list[int], wait_until: Any
) -> None:
    """Bytes flip in the cache between an attempt that was killed after embedding and the next."""
    data = tmp_path / "data-of-its-own"
    data.mkdir()
    with backend(label_studio, data) as server:
        store = RunStore(data)
        first = started(server, project)
        wait_until(lambda: not store.get(first).state.is_active, seconds=240)
        shards = sorted((data / CACHE).glob("*/*.npy"))
        assert shards
        for shard in shards:
            content = bytearray(shard.read_bytes())
            content[len(content) // 2] ^= 0x55
            shard.write_bytes(content)
        second = started(server, project)
        wait_until(lambda: not store.get(second).state.is_active, seconds=240)
        assert_done(store, second, project, expected)
        # set aside and written anew, under numbers that were free
        assert len(list((data / CACHE).glob("*/*.damaged"))) == 2 * len(shards)
        anew = set((data / CACHE).glob("*/*.npy")) - set(shards)
        assert sum(len(load_rows(shard)) for shard in anew) == TASKS
        store.close()


def test_stale_locks__of_dead_processes_hold_nobody_up(
    label_studio: LiveStudio, tmp_path: Path, project: LiveProject, expected: list[int], wait_until: Any
) -> None:
    """Lock files that name a living stranger, and a run that was running when the machine went down."""
    data = tmp_path / "data-of-its-own"
    data.mkdir()
    server = backend(label_studio, data)
    with server:
        store = RunStore(data)
        run_id = started(server, project)
        wait_until(lambda: held(store.files(run_id).lock))
        child = int(store.files(run_id).lock.read_text())
        assert server.process_id is not None
        os.kill(server.process_id, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: not held(store.files(run_id).lock))
        for lock in (store.files(run_id).lock, data / "server.lock"):
            lock.write_text(str(os.getpid()))
        server.stop()
        server.start()
        # and a second server on the same directory is refused while this one lives
        with pytest.raises(RunError, match="in use by another server"), backend(label_studio, data):
            pass
        wait_until(lambda: not store.get(run_id).state.is_active, seconds=240)
        assert_done(store, run_id, project, expected)
        store.close()


@pytest.mark.parametrize("jump", [-86_400, 86_400 * 400], ids=["a day back", "a year ahead"])
def test_clock_jump__between_two_attempts_changes_nothing(
    label_studio: LiveStudio,
    tmp_path: Path,
    project: LiveProject,
    expected: list[int],
    wait_until: Any,
    jump: float,
) -> None:
    """The times in the record and of the files are those of another clock when the next server comes."""
    data = tmp_path / "data-of-its-own"
    data.mkdir()
    server = backend(label_studio, data)
    with server:
        store = RunStore(data)
        run_id = started(server, project)
        wait_until(lambda: store.get(run_id).stage == "embed")
        assert server.process_id is not None
        os.kill(server.process_id, signal.SIGKILL)
        os.kill(int(store.files(run_id).lock.read_text()), signal.SIGKILL)
        then = time.time() - jump
        with store._transaction() as sql:
            sql.execute("UPDATE runs SET created_at = ?, started_at = ?, heartbeat = ?", (then, then, then))
        for path in data.rglob("*"):
            os.utime(path, (then, then))
        server.stop()
        server.start()
        wait_until(lambda: not store.get(run_id).state.is_active, seconds=240)
        assert_done(store, run_id, project, expected)
        page = requests.get(f"{server.url}/usl/runs/{run_id}", timeout=60)
        assert page.status_code == 200
        store.close()

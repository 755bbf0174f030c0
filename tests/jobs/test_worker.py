import errno
import subprocess
import sys

import pytest

from usl_backend.errors import (
    InputError,
    MediaHostError,
    RunError,
    StorageError,
    StudioAuthError,
    StudioTroubleError,
    StudioUnreachableError,
)
from usl_backend.jobs import run_here
from usl_backend.runs import RunState
from usl_backend.runs.lock import Lock, held
from usl_backend.runs.summary import Summary


@pytest.fixture
def run(store):
    return store.create(project=12, settings={"seed": 0}, place="shell")


def test_run_here__holds_the_lock_and_reports(store, host, run):
    seen = []

    def execute(running, progress):
        assert running.state is RunState.RUNNING
        assert held(store.files(run.id).lock)
        progress.stage("fetch")("listing", 3, 3)
        store.finish(run.id, Summary(picks=1))

    done = run_here(
        store, run, host=host, execute=execute, watch=lambda stage: lambda *told: seen.append((stage, *told))
    )
    assert (done.state, done.summary) == (RunState.DONE, Summary(picks=1))
    assert seen == [("fetch", "listing", 3, 3)]
    assert not held(store.files(run.id).lock)


def test_run_here__failure_is_in_the_record(store, host, run):
    def execute(running, report):
        raise InputError("budget is 500 but only 312 of 340 tasks could be read; lower the budget")

    failed = run_here(store, run, host=host, execute=execute)
    assert failed.state is RunState.FAILED
    assert failed.error["type"] == "InputError"


@pytest.mark.parametrize(
    "error",
    [
        StudioUnreachableError("no answer"),
        StudioTroubleError("503", status=503),
        StudioAuthError("set LABEL_STUDIO_API_KEY"),
        StorageError("free some disk space"),
        MediaHostError("300 of 300 files could not be fetched"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system", "/data/x"),
    ],
)
def test_run_here__what_the_run_lacks_pauses_it(store, host, run, error):
    def execute(running, report):
        raise error

    paused = run_here(store, run, host=host, execute=execute)
    assert (paused.state, paused.error["type"]) == (RunState.PAUSED, type(error).__name__)
    assert store.resume(run.id).state is RunState.QUEUED


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory ran out"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system", "/data/x"), "/data/x cannot be written"),
        (ValueError("odd"), "unexpected ValueError: odd; the trace is in 12-1/log.txt"),
    ],
)
def test_run_here__unforeseen_errors_are_sentences(store, host, run, error, said):
    def execute(running, report):
        raise error

    assert said in run_here(store, run, host=host, execute=execute).error["message"]


def test_run_here__cancelled_from_elsewhere_stops_at_the_next_report(store, host, run):
    def execute(running, progress):
        progress.stage("fetch")("listing", 0, 0)
        store.cancel(run.id)
        progress.stage("embed")("reading", 0, 0)
        raise AssertionError("it went on")

    assert run_here(store, run, host=host, execute=execute).state is RunState.CANCELLED


def test_run_here__ctrl_c_cancels(store, host, run):
    def execute(running, report):
        raise KeyboardInterrupt

    assert run_here(store, run, host=host, execute=execute).state is RunState.CANCELLED


def test_run_here__no_result_is_a_failure(store, host, run):
    assert (
        run_here(store, run, host=host, execute=lambda *_: None)
        .error["message"]
        .startswith("the run ended without")
    )


def test_run_here__not_twice(store, host, run):
    with Lock(store.files(run.id).lock), pytest.raises(RunError, match="is locked by process"):
        run_here(store, run, host=host, execute=lambda *_: None)
    assert store.get(run.id).state is RunState.QUEUED


def test_run_here__deletes_what_a_killed_attempt_had_half_written(store, host, run):
    directory = store.files(run.id).directory
    killed = "import os, sys; from pathlib import Path; from usl_backend.runs.artifacts import atomic_write\n"
    killed += (
        "with atomic_write(Path(sys.argv[1]) / 'embeddings.npy') as stream:\n    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed, directory], check=False, timeout=60)
    assert len(list(directory.glob(".embeddings.npy.*"))) == 1
    (directory / ".extension-x1").mkdir()
    (directory / ".extension-x1" / "embeddings.npy").write_bytes(b"new rows")
    (directory / ".accuracy.json.1-2.tmp").write_bytes(b"the server writes it")
    seen = []
    run_here(store, run, host=host, execute=lambda *_: seen.extend(one.name for one in directory.glob(".*")))
    assert seen == [".accuracy.json.1-2.tmp"]

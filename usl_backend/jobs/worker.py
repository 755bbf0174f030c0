"""Worker process of a run: lock, signals and error handling around `pipeline`.

`work` is the entry point of a child of the server; `run_here` computes a run in the calling shell.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from usl_backend.errors import (
    CancelledError,
    MediaHostError,
    RunError,
    StorageError,
    StudioAuthError,
    StudioTroubleError,
    StudioUnreachableError,
    USLError,
)
from usl_backend.jobs.logs import log_to_stderr
from usl_backend.jobs.redaction import redacted, secrets_of
from usl_backend.jobs.tally import Tally
from usl_backend.runs import Run, RunState, RunStore
from usl_backend.runs.lock import Lock

if TYPE_CHECKING:
    from usl_backend.progress import StageProgress
    from usl_backend.runs.progress import RunProgress
    from usl_backend.settings import HostSettings

logger = logging.getLogger(__name__)

Execute = Callable[[Run, "RunProgress"], object]
"""Compute a claimed run and record that it is done; raise if that fails."""

DONE: Final = 0
FAILED: Final = 1
STOPPED: Final = 3
"""Exit codes of `work`."""
WAITED_FOR: Final = (
    MediaHostError,
    StorageError,
    StudioAuthError,
    StudioTroubleError,
    StudioUnreachableError,
)
"""Errors caused by the environment, not the run: it pauses, and can be resumed once they are fixed."""
HEARTBEAT = 10.0
"""Seconds between two heartbeats in the run's record."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def work(run_id: str, *, host: HostSettings, execute: Execute | None = None) -> int:
    """Compute a run that the server has claimed, as its child process.

    The server passes its lock on the run as standard input. On SIGTERM or SIGINT the run stops at its next progress
    report and leaves its record unchanged, so that the process that sent the signal decides its state.

    Parameters
    ----------
    run_id
        Id of a run in state RUNNING.
    host
        Data directory, and address and token of Label Studio.
    execute
        Function that computes the run; by default the pipeline.

    Returns
    -------
    int
        Exit code: `DONE`, `FAILED` (failed or paused, the record has the reason) or `STOPPED`.
    """
    log_to_stderr(host, run=run_id)
    store = RunStore(host.model_dir)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        run = store.get(run_id)
        if run.state is not RunState.RUNNING:
            logger.info("run %s is %s: nothing to do", run_id, run.state)
            return STOPPED
        path = store.files(run_id).lock
        lock = None if _inherits_lock(path) else Lock(path)
        try:
            return _compute(store, run, host, execute, stop=stop)
        finally:
            if lock is not None:
                lock.close()
    except USLError as error:
        logger.error("run %s: %s", run_id, error)
        return FAILED
    finally:
        store.close()


def run_here(
    store: RunStore,
    run: Run,
    *,
    host: HostSettings,
    execute: Execute | None = None,
    watch: StageProgress | None = None,
) -> Run:
    """Compute a queued run, created with `place="shell"`, in this process.

    Ctrl-C cancels the run; it can be resumed.

    Parameters
    ----------
    store
        Store that holds the run.
    run
        A queued run.
    host
        As in `work`.
    execute
        As in `work`.
    watch
        Progress callback, for a progress bar.

    Returns
    -------
    Run
        Done, failed (`error` holds the reason) or cancelled.

    Raises
    ------
    RunError
        Another process computes the run, or it is not queued.
    """
    with Lock(store.files(run.id).lock):
        run = store.claim(run.id)
        try:
            _compute(store, run, host, execute, watch=watch)
        except KeyboardInterrupt:
            with suppress(RunError):  # it had ended before the key was pressed
                store.cancel(run.id)
    return store.get(run.id)


def _compute(
    store: RunStore,
    run: Run,
    host: HostSettings,
    execute: Execute | None,
    *,
    watch: StageProgress | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Execute a run and record its failure, if any; return the exit code."""
    secrets = secrets_of(host)
    try:
        # Imported here because the server imports this module and must stay small.
        from usl_backend.encoders.allocator import keep_freed_memory
        from usl_backend.runs.progress import RunProgress

        keep_freed_memory()  # before there is a second thread, which would get an arena of its own
        store.files(run.id).clear_leftovers()
        with _heartbeat(store, run.id):
            (execute or _pipeline(store, host))(run, RunProgress(store, run.id, watch=watch, stop=stop))
    except CancelledError as error:
        logger.info("%s", error)
        return STOPPED
    except USLError as error:
        end, outcome = (store.pause, "pauses") if isinstance(error, WAITED_FOR) else (store.fail, "failed")
        logger.error("run %s %s: %s", run.id, outcome, error)
        end(run.id, type(error).__name__, redacted(str(error), secrets))
        return FAILED
    except Exception as error:
        logger.exception("run %s failed", run.id)
        end = store.pause if _is_disk_error(error) else store.fail
        end(run.id, type(error).__name__, redacted(_message(error, store.files(run.id).log), secrets))
        return FAILED
    if store.get(run.id).state is RunState.RUNNING:
        store.fail(run.id, "RunError", "the run ended without a result; resume it, and report this")
        return FAILED
    return DONE


def _is_disk_error(error: Exception) -> bool:
    """Return True if the run only lacks disk space or write permission."""
    return isinstance(error, OSError) and error.errno in _FULL | _READ_ONLY


def _message(error: Exception, log: Path) -> str:
    """Describe an unexpected error and its remedy."""
    if isinstance(error, MemoryError):
        return "memory ran out; free memory on this host or choose a smaller image_size, then resume the run"
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"the disk is full ({error.strerror}); free space in the data directory, then resume the run"
    if isinstance(error, OSError) and error.errno in _READ_ONLY:
        return f"{error.filename} cannot be written ({error.strerror}); correct its permissions, then resume the run"
    return f"unexpected {type(error).__name__}: {error}; the trace is in {log.parent.name}/{log.name}"


def _pipeline(store: RunStore, host: HostSettings) -> Execute:
    """Return the function that computes a run with the real pipeline."""
    from usl_backend import pipeline
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.transport import PATIENT_ATTEMPTS

    def execute(run: Run, progress: RunProgress) -> object:
        if run.pool and run.import_order is None:
            return pipeline.execute(run, store=store, host=host, client=None, progress=progress)
        with (
            StudioClient.from_settings(host, attempts=PATIENT_ATTEMPTS) as client,
            closing(Tally(store)) as tally,
        ):
            client.http.observer = tally.request
            return pipeline.execute(run, store=store, host=host, client=client, progress=progress)

    return execute


def _inherits_lock(path: Path) -> bool:
    """Return True if standard input is the lock that the server took for this process."""
    try:
        return os.path.samestat(os.fstat(0), path.stat())
    except OSError:
        return False


@contextmanager
def _heartbeat(store: RunStore, run_id: str) -> Iterator[None]:
    """Write heartbeats to the run's record; they are for information only."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            try:
                store.beat(run_id)
            except USLError as error:
                logger.warning("%s", error)

    thread = threading.Thread(target=beat, name=f"heartbeat {run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

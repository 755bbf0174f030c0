"""The process that computes a run: its lock, its signals, its end. What is computed is in `pipeline`.

`work` is the whole life of a child of the server; `run_here` is the same for a shell that computes its own run.
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
"""Computes a running run and writes down that it is done; raises when it cannot."""

DONE: Final = 0
FAILED: Final = 1
STOPPED: Final = 3
"""Exit codes of `work`."""
WAITED_FOR: Final = (StorageError, StudioAuthError, StudioTroubleError, StudioUnreachableError)
"""Errors that say nothing against the run: it pauses, and goes on when somebody has seen to what is missing."""
HEARTBEAT = 10.0
"""Seconds between two signs of life in the record."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def work(run_id: str, *, host: HostSettings, execute: Execute | None = None) -> int:
    """Compute a run that the server has claimed, as its child process.

    The server hands its lock on the run over as standard input. On SIGTERM or SIGINT the run stops at its next
    report and leaves its record as it is, so that whoever asked decides what becomes of it.

    Parameters
    ----------
    run_id
        A running run.
    host
        Where the data directory and Label Studio are; the token comes through the environment.
    execute
        Default: the pipeline.

    Returns
    -------
    int
        Exit code: `DONE`, `FAILED` (failed or paused, the record says why) or `STOPPED`.
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
        lock = None if _inherited(path) else Lock(path)
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
    """Compute a queued run in this process: what a shell does with a run created with `place="shell"`.

    Ctrl-C cancels the run; it can be resumed.

    Parameters
    ----------
    store
        Where the run is.
    run
        A queued run.
    host
        As in `work`.
    execute
        Default: the pipeline.
    watch
        Told where the run is, for a progress bar.

    Returns
    -------
    Run
        Done, failed (its `error` says why) or cancelled.

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
            with suppress(RunError):  # it was over before the key was pressed
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
    """Execute a running run and write down how it failed, if it did."""
    secrets = secrets_of(host)
    try:
        # loaded here and not above: the server imports this module, and must stay small
        from usl_backend.runs.progress import RunProgress

        with _heartbeat(store, run.id):
            (execute or _pipeline(store, host))(run, RunProgress(store, run.id, watch=watch, stop=stop))
    except CancelledError as error:
        logger.info("%s", error)
        return STOPPED
    except USLError as error:
        end, how = (store.pause, "pauses") if isinstance(error, WAITED_FOR) else (store.fail, "failed")
        logger.error("run %s %s: %s", run.id, how, error)
        end(run.id, type(error).__name__, redacted(str(error), secrets))
        return FAILED
    except Exception as error:
        logger.exception("run %s failed", run.id)
        end = store.pause if _is_refused_by_disk(error) else store.fail
        end(run.id, type(error).__name__, redacted(_sentence(error, store.files(run.id).log), secrets))
        return FAILED
    if store.get(run.id).state is RunState.RUNNING:
        store.fail(run.id, "RunError", "the run ended without a result; resume it, and report this")
        return FAILED
    return DONE


def _is_refused_by_disk(error: Exception) -> bool:
    """Whether the run only lacks room or rights to write."""
    return isinstance(error, OSError) and error.errno in _FULL | _READ_ONLY


def _sentence(error: Exception, log: Path) -> str:
    """What happened and what to do, for an error nobody foresaw."""
    if isinstance(error, MemoryError):
        return "memory ran out; free memory on this host or choose a smaller image_size, then resume the run"
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"the disk is full ({error.strerror}); free space in the data directory, then resume the run"
    if isinstance(error, OSError) and error.errno in _READ_ONLY:
        return (
            f"{error.filename} cannot be written ({error.strerror}); correct its rights, then resume the run"
        )
    return f"unexpected {type(error).__name__}: {error}; the trace is in {log.parent.name}/{log.name}"


def _pipeline(store: RunStore, host: HostSettings) -> Execute:
    """The real computation."""
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


def _inherited(path: Path) -> bool:
    """Whether standard input is the lock that the server took for this process."""
    try:
        return os.path.samestat(os.fstat(0), path.stat())
    except OSError:
        return False


@contextmanager
def _heartbeat(store: RunStore, run_id: str) -> Iterator[None]:
    """Signs of life during long steps; they only inform."""
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

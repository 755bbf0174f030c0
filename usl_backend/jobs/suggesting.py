"""Make suggestions in a child process, for the server; `runs.suggest_job` keeps its record.

`python -m usl_backend.jobs.suggesting RUN` is the child; settings come from the environment, the request from the
record.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

from usl_backend.errors import ActiveRunError, RunError, StorageError, USLError
from usl_backend.jobs.environment import child_environment
from usl_backend.jobs.logs import log_to_stderr
from usl_backend.jobs.redaction import redacted, secrets_of
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.lock import Lock
from usl_backend.runs.suggest_job import LOG, SuggestJob, lock_of, read_job, write_job
from usl_backend.settings import HostSettings

if TYPE_CHECKING:
    from usl_backend.progress import Progress
    from usl_backend.runs import Run, RunFiles
    from usl_backend.suggesting.request import SuggestRequest

logger = logging.getLogger(__name__)

COMMAND: tuple[str, ...] = (sys.executable, "-m", "usl_backend.jobs.suggesting")
"""Command line that makes suggestions; the run id is appended."""
NICENESS: Final = 10
_EVERY: Final = 0.5
"""Seconds between two writes of the progress."""


def published_run(store: RunStore, project: int) -> Run:
    """Return the project's newest completed run, which is the one in force unless another installation's is.

    Raises
    ------
    RunError
        There is none.
    """
    for run in store.list(project=project, state=RunState.DONE):
        if not run.dry_run and store.files(run.id).has_published():
            return run
    raise RunError(
        f"project {project} has no completed run; run `usl-backend select {project}` or press Start Training first"
    )


def start_suggesting(store: RunStore, host: HostSettings, run: Run, request: SuggestRequest) -> SuggestJob:
    """Start a process that makes the suggestions of a run; return its record.

    Parameters
    ----------
    store, host
        Passed to the process through its environment.
    run
        A completed run of a project.
    request
        What to do with them.

    Raises
    ------
    ActiveRunError
        Suggestions for the run are being made, or a run of its project is active.
    RunError
        The run has no project of its own, or the process cannot be started.
    """
    if run.pool or run.dry_run or run.state is not RunState.DONE:
        raise RunError(f"run {run.id} gets no suggestions; they need a completed run of a project")
    store.refuse_second(project=run.project)
    files = store.files(run.id)
    try:
        with Lock(lock_of(files)) as lock, (files.directory / LOG).open("wb") as log:
            job = SuggestJob(run.id, asdict(request), started_at=time.time())
            write_job(files, job)
            process = subprocess.Popen(
                [*COMMAND, run.id],
                stdin=lock.descriptor,  # the child holds the lock from its start
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(host),
                start_new_session=True,
            )
            lock.sign(process.pid)
    except StorageError:
        raise
    except RunError:
        raise ActiveRunError(
            f"suggestions for run {run.id} are being made; wait for them", run_id=run.id
        ) from None
    except OSError as error:
        raise RunError(f"the process that makes suggestions cannot be started ({error})") from error
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    threading.Thread(target=process.wait, name=f"suggest {run.id}", daemon=True).start()
    return job


def suggest_in_child(run_id: str, host: HostSettings) -> int:
    """Carry out the request in a run's record, check the labels too, and keep the record; return the exit code."""
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.transport import PATIENT_ATTEMPTS
    from usl_backend.suggesting.doubts import find_doubts
    from usl_backend.suggesting.request import SuggestRequest
    from usl_backend.suggesting.work import carry_out

    store = RunStore(host.model_dir)
    try:
        run, files = store.get(run_id), store.files(run_id)
        told = _Told(files)
        try:
            with StudioClient.from_settings(host, attempts=PATIENT_ATTEMPTS) as client:
                outcome = carry_out(
                    SuggestRequest(**told.job.request),
                    project=run.project,
                    run=run,
                    store=store,
                    host=host,
                    client=client,
                    watch=told.stage,
                )
            find_doubts(store, outcome.found.labels, host=host)
        except USLError as error:
            logger.error("suggestions for run %s: %s", run_id, error)
            told.failed(type(error).__name__, redacted(str(error), secrets_of(host)))
            return 1
        except Exception as error:
            logger.exception("suggestions for run %s failed", run_id)
            message = f"unexpected {type(error).__name__}: {error}; the trace is in {run_id}/{LOG}"
            told.failed(type(error).__name__, redacted(message, secrets_of(host)))
            return 1
        told.write(replace(told.job, state="done", result=outcome.to_json(), finished_at=time.time()))
        return 0
    finally:
        store.close()


class _Told:
    """Record of a request while it is carried out."""

    def __init__(self, files: RunFiles) -> None:
        job = read_job(files)
        assert job is not None, "the server has written it"
        self.files, self.job = files, job
        self._written = 0.0

    def stage(self, stage: str, /) -> Progress:
        """Return a function that notes the progress of a stage."""

        def report(step: str, done: int, total: int, /) -> None:
            self.job = replace(self.job, stage=stage, step=step, done=done, total=total)
            if time.monotonic() > self._written + _EVERY:
                self.write(self.job)

        report("", 0, 0)
        return report

    def failed(self, kind: str, message: str) -> None:
        """Note a failure."""
        error = {"type": kind, "message": message}
        self.write(replace(self.job, state="failed", error=error, finished_at=time.time()))

    def write(self, job: SuggestJob) -> None:
        """Replace the record."""
        self._written = time.monotonic()
        write_job(self.files, job)


if __name__ == "__main__":
    _host = HostSettings.load()
    log_to_stderr(_host)
    sys.exit(suggest_in_child(sys.argv[1], _host))

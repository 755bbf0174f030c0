"""Child processes of the server beside those of runs: start one, and keep its record, `runs.suggest_job`."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from usl_backend.errors import ActiveRunError, RunError, StorageError, USLError
from usl_backend.jobs.environment import child_environment
from usl_backend.jobs.redaction import redacted, secrets_of
from usl_backend.runs.lock import Lock
from usl_backend.runs.suggest_job import Kind, SuggestJob, lock_of, log_of, read_job, write_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles
    from usl_backend.settings import HostSettings

logger = logging.getLogger(__name__)

NICENESS: Final = 10
_EVERY: Final = 0.5
"""Seconds between two writes of the progress."""


def start_side_process(
    files: RunFiles, job: SuggestJob, *, kind: Kind, command: Sequence[str], host: HostSettings, busy: str
) -> None:
    """Start a process for a job of a run, and write the job's record.

    Parameters
    ----------
    files
        Artifacts of the run.
    job
        The job as it starts.
    kind
        Which of the run's jobs.
    command
        Command line; the run id is appended.
    host
        Passed to the process through its environment.
    busy
        What is said if a job of this kind is at work already.

    Raises
    ------
    ActiveRunError
        A job of this kind is at work.
    RunError
        The process cannot be started.
    """
    try:
        with Lock(lock_of(files, kind)) as lock, log_of(files, kind).open("wb") as log:
            write_job(files, job, kind)
            process = subprocess.Popen(
                [*command, job.run],
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
        raise ActiveRunError(busy, run_id=job.run) from None
    except OSError as error:
        raise RunError(f"the process cannot be started ({error})") from error
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
    threading.Thread(target=process.wait, name=f"{kind} {job.run}", daemon=True).start()


class KeptJob:
    """Record of a job, kept by the process that does it.

    Parameters
    ----------
    files
        Artifacts of the run.
    kind
        Which of the run's jobs.
    """

    def __init__(self, files: RunFiles, kind: Kind) -> None:
        job = read_job(files, kind)
        assert job is not None, "the server has written it"
        self.files, self.kind, self.job = files, kind, job
        self._written = 0.0

    def stage(self, stage: str, /) -> Progress:
        """Return a function that notes the progress of a stage."""

        def report(step: str, done: int, total: int, /) -> None:
            self.job = replace(self.job, stage=stage, step=step, done=done, total=total)
            if time.monotonic() > self._written + _EVERY:
                self._write(self.job)

        report("", 0, 0)
        return report

    def carry_out(self, work: Callable[[], Mapping[str, Any]], *, host: HostSettings) -> int:
        """Do the work and note its result or its failure; return the exit code."""
        try:
            result = work()
        except USLError as error:
            logger.error("%s for run %s: %s", self.kind, self.job.run, error)
            self._failed(type(error).__name__, redacted(str(error), secrets_of(host)))
            return 1
        except Exception as error:
            logger.exception("%s for run %s failed", self.kind, self.job.run)
            log = log_of(self.files, self.kind).name
            message = f"unexpected {type(error).__name__}: {error}; the trace is in {self.job.run}/{log}"
            self._failed(type(error).__name__, redacted(message, secrets_of(host)))
            return 1
        self._write(replace(self.job, state="done", result=result, finished_at=time.time()))
        return 0

    def _failed(self, kind: str, message: str) -> None:
        """Note a failure."""
        error = {"type": kind, "message": message}
        self._write(replace(self.job, state="failed", error=error, finished_at=time.time()))

    def _write(self, job: SuggestJob) -> None:
        """Replace the record."""
        self._written = time.monotonic()
        write_job(self.files, job, self.kind)

"""Supervisor thread that starts, watches and stops the worker processes of runs; `worker` is what they execute.

It relies on two things only: the run's record holds the intended state, the lock on the run's directory the actual
one. A run recorded as running whose lock is free is dead, whatever happened to the server that started it.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from usl_backend.errors import RunError, SettingsError, USLError
from usl_backend.jobs.environment import child_environment
from usl_backend.jobs.run_settings import settings_of
from usl_backend.jobs.silencer import Silencer
from usl_backend.runs import Run, RunState, RunStore, serving
from usl_backend.runs.lock import Lock, held
from usl_backend.settings import HostSettings, RunSettings

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 3
"""Consecutive deaths of a run's process without progress after which the run counts as failed."""
GRACE: Final = 20.0
"""Seconds a run has to save its progress after SIGTERM; on a busy host one batch takes several."""
NICENESS: Final = 10
"""Added to the niceness of the server, so that annotators are served first."""
_OOM_SCORE: Final = 500
"""OOM score that makes the kernel kill the run and not the server when memory runs out."""
_SHELL_START: Final = 60.0
"""Seconds a shell has to take the lock of a run it created."""
_ERROR_PAUSE: Final = 5.0
"""Seconds between two checks after one failed: on a full disk every check fails."""


@dataclass
class _Child:
    """Worker process of a run."""

    process: subprocess.Popen[bytes]
    terminated_at: float | None = None


class Jobs:
    """Run queue of one data directory, and the supervisor of its worker processes.

    `enqueue`, `start_training`, `cancel` and `resume` only write to the run records and return in milliseconds; they
    may be called from any thread, also while another process supervises the same directory.

    Parameters
    ----------
    store
        Run records of the data directory.
    host
        Passed to the processes through their environment.
    command
        Command line that computes a run; the run id is appended.
    grace
        Seconds between SIGTERM and SIGKILL.
    interval
        Seconds between two checks of the processes.
    """

    def __init__(
        self,
        store: RunStore,
        host: HostSettings,
        *,
        command: Sequence[str] = (sys.executable, "-m", "usl_backend", "work"),
        grace: float = GRACE,
        interval: float = 0.5,
    ) -> None:
        self.store = store
        self.host = host
        self._command = tuple(command)
        self._grace = grace
        self._interval = interval
        self._children: dict[str, _Child] = {}
        self._shells: dict[str, float] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock: Lock | None = None
        self._silencer = Silencer(host)

    # user requests

    def enqueue(
        self,
        project: int,
        *,
        project_key: str = "",
        explicit: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> Run:
        """Queue a run with the settings of the environment, the project and `explicit`.

        Raises
        ------
        SettingsError
            The settings are invalid; nothing was queued.
        ActiveRunError
            The project has an active run; nothing was queued.
        """
        settings = self._settings(project, project_key, explicit)
        return self._create(project, project_key, settings.to_json(), dry_run=dry_run)

    def start_training(self, project: int, *, project_key: str = "") -> Run:
        """Queue a run on Label Studio's Start Training.

        Label Studio does not show its user a refusal, so a run that cannot start is recorded as failed.

        Returns
        -------
        Run
            Queued, or failed with the reason.

        Raises
        ------
        ActiveRunError
            The project has an active run; nothing was queued.
        """
        self.store.refuse_second(project=project)  # cheap, so first: impatient users press again
        try:
            settings = self._settings(project, project_key, None).to_json()
        except SettingsError as error:
            reason = {"type": type(error).__name__, "message": str(error)}
            return self._create(project, project_key, {}, error=reason)
        return self._create(project, project_key, settings)

    def cancel(self, run_id: str) -> Run:
        """Cancel an active run; its process ends soon after.

        Raises
        ------
        RunError
            There is no such run, or it has ended.
        """
        run = self.store.cancel(run_id)
        self._wake.set()
        return run

    def resume(self, run_id: str) -> Run:
        """Queue a paused, failed or cancelled run again; completed stages are kept.

        Raises
        ------
        RunError
            There is no such run, or it cannot be resumed.
        ActiveRunError
            The project has another active run.
        """
        if not self.store.get(run_id).settings:
            raise RunError(f"run {run_id} has no valid settings; correct them and press Start Training again")
        run = self.store.resume(run_id)
        self._wake.set()
        return run

    def again(self, run_id: str) -> Run:
        """Queue a run with exactly the settings of an earlier one of a project.

        Raises
        ------
        RunError
            There is no such run, it has no valid settings, or its pool lies outside Label Studio.
        ActiveRunError
            The project has an active run.
        """
        before = self.store.get(run_id)
        if before.pool or not before.settings:
            raise RunError(f"run {run_id} cannot be repeated from here; use `usl-backend select`")
        return self._create(before.project, before.project_key, before.settings)

    def publish(self, run_id: str) -> Run:
        """Queue a finished dry run again, to publish what it has chosen; nothing is selected again.

        Raises
        ------
        RunError
            There is no such run, or it is no finished dry run of a project.
        ActiveRunError
            The project has an active run.
        """
        run = self.store.take_up(run_id)
        self._wake.set()
        return run

    def connected(self, project: int, address: str) -> None:
        """Schedule switching off the project's webhook, after Label Studio called this backend at `address`."""
        self._silencer.ask(project, address)

    # life cycle of the supervisor

    def start(self) -> None:
        """Start supervising: recover the runs of an earlier server, then start the queued ones.

        Raises
        ------
        RunError
            Another process supervises the data directory.
        """
        try:
            self._lock = Lock(self.store.directory / serving.LOCK)
        except RunError as error:
            raise RunError(
                f"data directory {self.store.directory} is in use by another server ({error}); stop that one, or set "
                "MODEL_DIR to another directory"
            ) from None
        serving.forget_address(self.store.directory)  # of a server that was killed
        self._stopping.clear()
        self._resume_paused()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()
        self._silencer.start()

    def stop(self) -> None:
        """Stop supervising: end every worker process and queue its run again for the next start."""
        self._silencer.stop()
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._lock is not None:
            serving.forget_address(self.store.directory)
            self._lock.close()
            self._lock = None

    @property
    def is_alive(self) -> bool:
        """True while the supervisor thread runs."""
        return self._thread is not None and self._thread.is_alive()

    # internals

    def _settings(self, project: int, project_key: str, explicit: Mapping[str, Any] | None) -> RunSettings:
        """Resolve the settings of a new run."""
        if not self.host.api_key:
            raise SettingsError(
                "no Label Studio token is configured; set LABEL_STUDIO_API_KEY where the backend runs and restart it"
            )
        return settings_of(self.store, project, project_key, explicit)

    def _create(self, project: int, project_key: str, settings: Mapping[str, Any], **more: Any) -> Run:
        """Record the run and wake the supervisor."""
        if not project_key:
            setup = self.store.setup(project)
            project_key = setup.project_key if setup else ""
        run = self.store.create(project=project, project_key=project_key, settings=settings, **more)
        self._wake.set()
        return run

    def _resume_paused(self) -> None:
        """Queue paused runs again: a restart often brings a new token or free disk space.

        A run with a newer one of its project stays paused: its queue must not replace the newer one.
        """
        for run in self.store.list(state=RunState.PAUSED):
            (newest,) = self.store.list(project=run.project, pool=run.pool, limit=1)
            if run.place == "server" and newest.id == run.id:
                try:
                    self.store.resume(run.id)
                except RunError as error:
                    logger.error("run %s stays paused: %s", run.id, error)

    def _supervise(self) -> None:
        """Run the thread's loop."""
        while not self._stopping.is_set():
            self._wake.clear()
            pause = self._interval
            try:
                self._check()
            except USLError as error:
                # A full disk or a locked database may be temporary: keep the thread alive.
                logger.error("%s", error)
                pause = _ERROR_PAUSE
            except Exception:
                logger.exception("unexpected error in the supervisor; it keeps running")
                pause = _ERROR_PAUSE
            self._wake.wait(pause)
        self._end_all()

    def _check(self) -> None:
        """Handle ended, cancelled and orphaned runs, then start queued ones."""
        self._reap()
        self._end_cancelled()
        self._recover_orphans()
        while len(self._children) < self.host.max_running:
            run = self.store.claim_next(self.host.max_running)
            if run is None or not self._spawn(run):
                return

    def _reap(self) -> None:
        """Handle the worker processes that ended."""
        for run_id, child in list(self._children.items()):
            code = child.process.poll()
            if code is not None:
                self._retry_or_fail(run_id, _cause_of_death(code, self.store.files(run_id).log))
                del self._children[run_id]

    def _end_cancelled(self) -> None:
        """Stop the worker processes whose run was cancelled."""
        for run_id, child in self._children.items():
            if self.store.get(run_id).state is not RunState.RUNNING:
                self._end(child)

    def _end(self, child: _Child) -> None:
        """Send SIGTERM once, and SIGKILL after the grace period."""
        now = time.monotonic()
        if child.terminated_at is None:
            child.terminated_at = now
            child.process.terminate()
        elif now > child.terminated_at + self._grace:
            child.process.kill()

    def _recover_orphans(self) -> None:
        """Requeue or fail runs without a process, whose server or shell has died."""
        for run in self.store.list(state=RunState.RUNNING):
            if run.id not in self._children and not held(self.store.files(run.id).lock):
                self._retry_or_fail(run.id, "the process that computed the run is gone; resume it")
        queued = {run.id for run in self.store.list(state=RunState.QUEUED) if run.place == "shell"}
        # Counted from when this process first saw it: the wall clock may jump.
        self._shells = {run_id: self._shells.get(run_id, time.monotonic()) for run_id in queued}
        for run_id, since in self._shells.items():
            if time.monotonic() > since + _SHELL_START and not held(self.store.files(run_id).lock):
                self.store.fail(
                    run_id, "RunError", "the shell that created the run ended before it began; resume it"
                )

    def _retry_or_fail(self, run_id: str, cause: str) -> None:
        """Requeue or fail a run whose process ended, unless the process recorded the run's end itself."""
        run = self.store.get(run_id)
        if run.state is not RunState.RUNNING:
            return
        if run.place == "server" and run.attempts < ATTEMPTS:
            logger.warning("run %s, attempt %d of %d: %s", run_id, run.attempts, ATTEMPTS, cause)
            self.store.requeue(run_id)
        else:
            logger.error("run %s: %s", run_id, cause)
            self.store.fail(run_id, "ProcessDied", cause)

    def _spawn(self, run: Run) -> bool:
        """Start the process of a claimed run; return False if it did not start."""
        neighbors = self.store.list(project=run.project, pool=run.pool, limit=10)
        try:
            files = self.store.files(run.id)
            if any(held(self.store.files(other.id).lock) for other in neighbors):
                # An earlier process of this project is still exiting; two must never publish at once.
                self.store.requeue(run.id, blameless=True)
                return False
            with Lock(files.lock) as lock, files.log.open("ab") as log:
                process = subprocess.Popen(
                    [*self._command, run.id],
                    stdin=lock.descriptor,  # the child holds the lock from its start
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=child_environment(self.host),
                    start_new_session=True,
                )
                lock.sign(process.pid)
        except (OSError, RunError) as error:
            self.store.pause(
                run.id, type(error).__name__, f"the run's process cannot be started ({error}); resume the run"
            )
            return False
        self._children[run.id] = _Child(process)
        _lower_priority(process.pid)
        logger.info("run %s: attempt %d, process %d", run.id, run.attempts, process.pid)
        return True

    def _end_all(self) -> None:
        """End every worker process and queue its run again; completed stages stay on disk."""
        deadline = time.monotonic() + self._grace
        for child in self._children.values():
            child.process.terminate()
        for run_id, child in self._children.items():
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            with suppress(USLError):  # the next start finds the lock free and does the same
                self.store.requeue(run_id, blameless=True)
        self._children.clear()


def _lower_priority(process: int) -> None:
    """Lower a process's CPU priority and raise its OOM score, where the host allows it."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process, min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS))
    with suppress(OSError):
        Path(f"/proc/{process}/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")


def _cause_of_death(code: int, log: Path) -> str:
    """Explain why a worker died without reporting an error."""
    where = f"its last output is in {log.parent.name}/{log.name}"
    if code == -signal.SIGKILL:
        return (
            "the run's process was killed (SIGKILL), most likely because memory ran out; free memory on this host "
            f"or choose a smaller image_size, then resume the run; {where}"
        )
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the run's process was ended by {name}; resume the run; {where}"
    return f"the run's process ended with exit code {code} and no result; resume the run; {where}"

"""The one thread that starts, watches and ends the processes of runs. The processes themselves are in `worker`.

It trusts two things only: the record says what should be, the lock on a run's directory says what is. A running
run whose lock is free is dead, whatever became of the server that started it.
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
from usl_backend.jobs.silencer import Silencer
from usl_backend.runs import Run, RunState, RunStore
from usl_backend.runs.lock import Lock, held
from usl_backend.settings import HostSettings, RunSettings

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 3
"""How often in a row a run's process may die, without having kept anything, before the run counts as failed."""
GRACE: Final = 20.0
"""Seconds that a run which is asked to stop has to write down what it has; on a busy host one batch takes some."""
NICENESS: Final = 10
"""Added to the niceness of the server: annotators come first."""
_OOM_SCORE: Final = 500
"""When memory runs out the kernel takes the run and not the server."""
_SETTLE: Final = 60.0
"""Seconds in which a shell has to take the lock of a run it created."""
_TROUBLE: Final = 5.0
"""Seconds until the next look when one failed: on a full disk every look fails."""


@dataclass
class _Child:
    """A process that computes a run."""

    process: subprocess.Popen[bytes]
    asked_at: float | None = None


class Jobs:
    """Runs of one data directory.

    `enqueue`, `start_training`, `cancel` and `resume` only write to the record and answer in milliseconds; they
    may be called from any thread, also where another process supervises the same directory.

    Parameters
    ----------
    store
        Where runs are remembered.
    host
        Handed to the processes through their environment.
    command
        What computes a run; its id is appended.
    grace
        Seconds between asking a process to stop and killing it.
    interval
        Seconds between two looks at the processes.
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

    # asked for by users

    def enqueue(
        self,
        project: int,
        *,
        project_key: str = "",
        explicit: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> Run:
        """Queue a run with the settings of environment, project and `explicit`.

        Raises
        ------
        SettingsError
            The settings cannot be used; nothing was queued.
        ActiveRunError
            The project has an active run; nothing was queued.
        """
        settings = self._settings(project, project_key, explicit)
        return self._create(project, project_key, settings.to_json(), dry_run=dry_run)

    def start_training(self, project: int, *, project_key: str = "") -> Run:
        """Queue a run as Label Studio's Start Training asks for it.

        Label Studio shows its user nothing of a refusal, so a run that cannot start is written down as failed.

        Returns
        -------
        Run
            Queued, or failed with the reason.

        Raises
        ------
        ActiveRunError
            The project has an active run; nothing was queued.
        """
        self.store.refuse_second(project=project)  # first because it is cheap: impatient users press again
        try:
            settings = self._settings(project, project_key, None).to_json()
        except SettingsError as error:
            told = {"type": type(error).__name__, "message": str(error)}
            return self._create(project, project_key, {}, error=told)
        return self._create(project, project_key, settings)

    def cancel(self, run_id: str) -> Run:
        """Cancel an active run; its process ends soon after.

        Raises
        ------
        RunError
            There is no such run, or it is over.
        """
        run = self.store.cancel(run_id)
        self._wake.set()
        return run

    def resume(self, run_id: str) -> Run:
        """Queue a paused, failed or cancelled run again; complete stages are not computed again.

        Raises
        ------
        RunError
            There is no such run, or it cannot be resumed.
        ActiveRunError
            The project has another active run.
        """
        if not self.store.get(run_id).settings:
            raise RunError(
                f"run {run_id} never had usable settings; correct them and press Start Training again"
            )
        run = self.store.resume(run_id)
        self._wake.set()
        return run

    def connected(self, project: int, address: str) -> None:
        """Note that Label Studio has called us at `address` for a project: its webhook is switched off soon."""
        self._silencer.ask(project, address)

    # life of the supervisor

    def start(self) -> None:
        """Begin to supervise: recover what an earlier server left, then start what is queued.

        Raises
        ------
        RunError
            Another process supervises the data directory.
        """
        try:
            self._lock = Lock(self.store.directory / "server.lock")
        except RunError as error:
            raise RunError(
                f"data directory {self.store.directory} is in use by another server ({error}); stop that one, or set "
                "MODEL_DIR to another directory"
            ) from None
        self._stopping.clear()
        self._resume_paused()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self._thread.start()
        self._silencer.start()

    def stop(self) -> None:
        """Stop supervising: every process of ours is ended and its run queued again for the next start."""
        self._silencer.stop()
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def is_alive(self) -> bool:
        """Whether the supervising thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    # inside

    def _settings(self, project: int, project_key: str, explicit: Mapping[str, Any] | None) -> RunSettings:
        """Settings of a run that is about to be queued."""
        if not self.host.api_key:
            raise SettingsError(
                "no Label Studio token is configured; set LABEL_STUDIO_API_KEY where the backend runs and restart it"
            )
        setup = self.store.setup(project, project_key)
        if setup is not None and setup.refused is not None:
            raise SettingsError(setup.refused)
        return RunSettings.resolve(extra_params=setup.extra_params if setup else None, explicit=explicit)

    def _create(self, project: int, project_key: str, settings: Mapping[str, Any], **more: Any) -> Run:
        """Write the run down and wake the supervisor."""
        if not project_key:
            setup = self.store.setup(project)
            project_key = setup.project_key if setup else ""
        run = self.store.create(project=project, project_key=project_key, settings=settings, **more)
        self._wake.set()
        return run

    def _resume_paused(self) -> None:
        """Queue again what waits: a new token, or room on the disk, often comes with a restart.

        A run that a later one has overtaken stays paused: its queue must not replace the newer one.
        """
        for run in self.store.list(state=RunState.PAUSED):
            (newest,) = self.store.list(project=run.project, pool=run.pool, limit=1)
            if run.place == "server" and newest.id == run.id:
                try:
                    self.store.resume(run.id)
                except RunError as error:
                    logger.error("run %s stays paused: %s", run.id, error)

    def _supervise(self) -> None:
        """The thread."""
        while not self._stopping.is_set():
            self._wake.clear()
            pause = self._interval
            try:
                self._look()
            except USLError as error:  # a full disk or a locked database may pass; the thread must not
                logger.error("%s", error)
                pause = _TROUBLE
            except Exception:
                logger.exception("the supervisor stumbled; it goes on")
                pause = _TROUBLE
            self._wake.wait(pause)
        self._end_all()

    def _look(self) -> None:
        """One look at everything."""
        self._reap()
        self._end_cancelled()
        self._bury()
        while len(self._children) < self.host.max_running:
            run = self.store.claim_next(self.host.max_running)
            if run is None or not self._spawn(run):
                return

    def _reap(self) -> None:
        """Children that ended."""
        for run_id, child in list(self._children.items()):
            code = child.process.poll()
            if code is not None:
                self._settle(run_id, _obituary(code, self.store.files(run_id).log))
                del self._children[run_id]

    def _end_cancelled(self) -> None:
        """Children whose run is not wanted any more."""
        for run_id, child in self._children.items():
            if self.store.get(run_id).state is not RunState.RUNNING:
                self._end(child)

    def _end(self, child: _Child) -> None:
        """Ask once; after the grace, kill."""
        now = time.monotonic()
        if child.asked_at is None:
            child.asked_at = now
            child.process.terminate()
        elif now > child.asked_at + self._grace:
            child.process.kill()

    def _bury(self) -> None:
        """Runs that nobody computes: their server or their shell died with them."""
        for run in self.store.list(state=RunState.RUNNING):
            if run.id not in self._children and not held(self.store.files(run.id).lock):
                self._settle(run.id, "the process that computed the run is gone; resume it")
        queued = {run.id for run in self.store.list(state=RunState.QUEUED) if run.place == "shell"}
        # counted from when we first saw it: the clock on the wall may jump
        self._shells = {run_id: self._shells.get(run_id, time.monotonic()) for run_id in queued}
        for run_id, since in self._shells.items():
            if time.monotonic() > since + _SETTLE and not held(self.store.files(run_id).lock):
                self.store.fail(
                    run_id, "RunError", "the shell that asked for the run ended before it began; resume it"
                )

    def _settle(self, run_id: str, obituary: str) -> None:
        """Decide what becomes of a run whose process ended; nothing where the process has decided."""
        run = self.store.get(run_id)
        if run.state is not RunState.RUNNING:
            return
        if run.place == "server" and run.attempts < ATTEMPTS:
            logger.warning("run %s, attempt %d of %d: %s", run_id, run.attempts, ATTEMPTS, obituary)
            self.store.requeue(run_id)
        else:
            logger.error("run %s: %s", run_id, obituary)
            self.store.fail(run_id, "ProcessDied", obituary)

    def _spawn(self, run: Run) -> bool:
        """Start the process of a run that was just claimed; False when that has to wait."""
        neighbors = self.store.list(project=run.project, pool=run.pool, limit=10)
        try:
            files = self.store.files(run.id)
            if any(held(self.store.files(other.id).lock) for other in neighbors):
                # an earlier process of this project is still on its way out; two must never publish at once
                self.store.requeue(run.id, blameless=True)
                return False
            with Lock(files.lock) as lock, files.log.open("ab") as log:
                process = subprocess.Popen(
                    [*self._command, run.id],
                    stdin=lock.descriptor,  # the child holds the lock from its first instant
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
        _be_modest(process.pid)
        logger.info("run %s: attempt %d, process %d", run.id, run.attempts, process.pid)
        return True

    def _end_all(self) -> None:
        """End every child and queue its run again; what it has completed stays on disk."""
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


def _be_modest(process: int) -> None:
    """Give way to the server and to everything else on this host; best effort."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process, min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS))
    with suppress(OSError):
        Path(f"/proc/{process}/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")


def _obituary(code: int, log: Path) -> str:
    """How a process ended that did not say so itself."""
    where = f"what it wrote last is in {log.parent.name}/{log.name}"
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

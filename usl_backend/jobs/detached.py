"""Supervisor process for hosts without a server: it exits when the queue is empty.

`python -m usl_backend.jobs` starts it; settings come from the environment.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from usl_backend.errors import RunError
from usl_backend.jobs.environment import child_environment
from usl_backend.jobs.supervisor import Jobs
from usl_backend.runs import RunState, RunStore

if TYPE_CHECKING:
    from usl_backend.settings import HostSettings

_INTERVAL: Final = 0.5


def supervise_detached(host: HostSettings) -> None:
    """Start a process that computes the queued runs and outlives this one; return at once.

    If a server or another such process already supervises the data directory, it keeps doing so.

    Raises
    ------
    RunError
        The process cannot be started.
    """
    store = RunStore(host.model_dir)
    try:
        with (store.directory / "detached.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "usl_backend.jobs"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(host),
                start_new_session=True,
            )
        # The host process may be long-lived: wait for the child so that it leaves no zombie.
        threading.Thread(target=process.wait, name="detached", daemon=True).start()
    except OSError as error:
        raise RunError(
            f"the process that computes the run cannot be started ({error}); run `usl-backend serve`"
        ) from None
    finally:
        store.close()


def drain(store: RunStore, host: HostSettings) -> None:
    """Supervise until nothing is queued or running.

    While another process supervises and runs are queued, wait: it may be about to exit, having just seen an empty
    queue.
    """
    while _has_queued(store):
        jobs = Jobs(store, host)
        try:
            jobs.start()
        except RunError:
            time.sleep(_INTERVAL)
            continue
        try:
            while _has_queued(store) or store.list(state=RunState.RUNNING, limit=1):
                time.sleep(_INTERVAL)
        finally:
            jobs.stop()


def _has_queued(store: RunStore) -> bool:
    """Return True if a run is queued for a server."""
    return any(run.place == "server" for run in store.list(state=RunState.QUEUED))

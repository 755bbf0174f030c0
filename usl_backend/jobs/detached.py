"""Supervision without a server: a process that goes when the queue is empty. For hosts that only ask for runs.

`python -m usl_backend.jobs` is that process; settings come from the environment.
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
    """See that queued runs are computed, by a process that outlives this one; returns at once.

    Where a server or another such process is at work on the data directory, that one does it.
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
        # whoever hosts us may live long: leave it no zombie
        threading.Thread(target=process.wait, name="detached", daemon=True).start()
    except OSError as error:
        raise RunError(
            f"no process can be started to compute the run ({error}); run `usl-backend serve`"
        ) from None
    finally:
        store.close()


def drain(store: RunStore, host: HostSettings) -> None:
    """Supervise until nothing is queued or running; wait while somebody else supervises and runs are queued.

    Waiting matters: the other one may be about to leave, having just seen an empty queue.
    """
    while _waiting(store):
        jobs = Jobs(store, host)
        try:
            jobs.start()
        except RunError:
            time.sleep(_INTERVAL)
            continue
        try:
            while _waiting(store) or store.list(state=RunState.RUNNING, limit=1):
                time.sleep(_INTERVAL)
        finally:
            jobs.stop()


def _waiting(store: RunStore) -> bool:
    """Whether a run is queued for a server."""
    return any(run.place == "server" for run in store.list(state=RunState.QUEUED))

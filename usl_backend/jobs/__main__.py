"""`python -m usl_backend.jobs`: compute the queued runs, then exit. See `detached`."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from usl_backend.jobs.detached import drain
from usl_backend.jobs.logs import log_to_stderr
from usl_backend.runs import RunStore
from usl_backend.settings import HostSettings


def _exit(_number: int, _frame: FrameType | None) -> None:
    """Exit through the cleanup code, which queues unfinished runs again."""
    sys.exit(0)


def main() -> None:
    """Drain the queue of the data directory given by the environment."""
    signal.signal(signal.SIGTERM, _exit)
    host = HostSettings.load()
    log_to_stderr(host)
    store = RunStore(host.model_dir)
    try:
        drain(store, host)
    finally:
        store.close()


if __name__ == "__main__":
    main()

"""`python -m usl_backend.jobs`: compute what is queued, then leave. See `detached`."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from usl_backend.jobs.detached import drain
from usl_backend.jobs.logs import log_to_stderr
from usl_backend.runs import RunStore
from usl_backend.settings import HostSettings


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End in an orderly way: runs under way are queued again."""
    sys.exit(0)


def main() -> None:
    """Drain the queue of the data directory that the environment names."""
    signal.signal(signal.SIGTERM, _leave)
    host = HostSettings.load()
    log_to_stderr(host)
    store = RunStore(host.model_dir)
    try:
        drain(store, host)
    finally:
        store.close()


if __name__ == "__main__":
    main()

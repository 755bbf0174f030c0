"""Server process: one per data directory, with waitress threads and an orderly shutdown on SIGTERM."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Final

from usl_backend.errors import SettingsError
from usl_backend.jobs import Jobs
from usl_backend.jobs.logs import log_to_stderr
from usl_backend.runs import RunStore
from usl_backend.runs.serving import announce
from usl_backend.settings import RunSettings
from usl_backend.web.app import create_app
from usl_backend.web.connections import listen
from usl_backend.web.credentials import check_exposure
from usl_backend.web.dispatcher import UrgentFirst
from usl_backend.web.guard import MAX_PREDICT_BODY, body_limit

if TYPE_CHECKING:
    from usl_backend.settings import HostSettings

logger = logging.getLogger(__name__)

THREADS: Final = 16
"""Number of concurrent requests; Label Studio may call again while it waits for a response."""


def serve(host: HostSettings, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then stop the processes of runs, which continue at the next start.

    Parameters
    ----------
    host
        Gives address, credentials and data directory.
    ready
        Called with the server's own address once it accepts requests.

    Raises
    ------
    SettingsError
        Listening on the address is refused or fails.
    RunError
        The data directory cannot be used or has a server already.
    """
    log_to_stderr(host)
    # It would warn whenever a request waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    check_exposure(host)
    RunSettings.resolve()  # report an invalid variable at the start, not to the first user
    store = RunStore(host.model_dir)
    jobs = Jobs(store, host)
    try:
        try:
            dispatcher = UrgentFirst()
            dispatcher.set_thread_count(THREADS)
            server = listen(
                create_app(host, jobs),
                dispatcher,
                host=host.host,
                port=host.port,
                most_bytes=MAX_PREDICT_BODY,
                limit=body_limit(host),
            )
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {host.host}:{host.port} ({error.strerror or error}); choose another USL_PORT or "
                "stop what uses it"
            ) from None
        try:
            jobs.start()
            with contextlib.suppress(SystemExit), _ended_by_signals():
                address = f"http://{_url_host(host.host)}:{server.effective_listen[0][1]}"
                announce(host.model_dir, host.pages_address or address)
                logger.info("listening on %s", address)
                if not host.basic_auth_user:
                    logger.info("no credentials are set, so only this machine can connect")
                if ready is not None:
                    ready(address)
                server.run()  # returns on the SystemExit of a signal
            logger.info("asked to stop; active runs save their progress")
        finally:
            server.close()
            jobs.stop()
    finally:
        store.close()


def _url_host(host: str) -> str:
    """Return a listening address in the form of a URL's host."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 (only compared)  # nosec B104
        return "localhost"
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise SystemExit in the block on SIGTERM and SIGINT."""

    def raise_exit(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    previous = {number: signal.signal(number, raise_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

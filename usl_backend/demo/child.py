"""Start, watch and stop child processes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from usl_backend.errors import USLError

logger = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds; longer than the backend waits for a run to stop


def spawn(
    command: Sequence[str], *, environment: Mapping[str, str], log_path: Path
) -> subprocess.Popen[bytes]:
    """Start a command in its own process group, so that Ctrl-C in the terminal reaches it only through `stop`.

    Parameters
    ----------
    command
        Program and arguments.
    environment
        The child's whole environment.
    log_path
        File for its output and errors, overwritten; its folder is the child's working directory.

    Returns
    -------
    subprocess.Popen
        The running child; its process id is also its group's.
    """
    with log_path.open("wb") as log:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=log_path.parent,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], *, name: str) -> None:
    """Stop a child and its process group: SIGTERM first, then SIGKILL.

    Parameters
    ----------
    process
        Result of `spawn`; it may have ended by itself.
    name
        Name of the process in a warning.
    """
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            logger.warning("%s (process %d) did not stop within %.0f s", name, process.pid, PATIENCE)
        else:
            return


def tail(log_path: Path, lines: int = 25) -> str:
    """Return the last lines of a log, joined by newlines; empty if there is no log."""
    if not log_path.exists():
        return ""
    return "\n".join(log_path.read_text("utf-8", errors="replace").splitlines()[-lines:])


class ChildServer:
    """Server in a child process, as a context manager; a subclass defines how to start it.

    Parameters
    ----------
    name
        Name of the server in messages.
    url
        Address of the server.
    log_path
        Log file with the server's output and errors.
    failure
        Error raised if the server does not become ready.
    """

    def __init__(self, name: str, *, url: str, log_path: Path, failure: type[USLError]) -> None:
        self.url = url
        self.log_path = log_path
        self._name = name
        self._failure = failure
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process_id(self) -> int | None:
        """Process id (and process group) of the running server; None if it is not running."""
        return self._process.pid if self._process else None

    @property
    def ended(self) -> bool:
        """True if the server ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the server and its children, if it is running."""
        process, self._process = self._process, None
        if process is not None:
            stop(process, name=self._name)

    def _launch(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        ready: Callable[[], bool],
        within: float,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Start `command` and wait until `ready`, at most `within` seconds; stop it if that fails."""
        self._process = spawn(command, environment=environment, log_path=self.log_path)
        try:
            self._wait(self._process, ready, within, progress)
        except BaseException:
            self.stop()
            raise

    def _wait(
        self,
        process: subprocess.Popen[bytes],
        ready: Callable[[], bool],
        within: float,
        progress: Callable[[float], None] | None,
    ) -> None:
        """Wait until `ready`; raise the failure with the end of the log."""
        started = time.monotonic()
        while not ready():
            waited = time.monotonic() - started
            trouble = ""
            if process.poll() is not None:
                trouble = f"ended with exit code {process.returncode} while starting"
            elif waited > within:
                trouble = f"was not ready within {within:.0f} s"
            if trouble:
                raise self._failure(
                    f"{self._name} {trouble}; the end of {self.log_path}:\n{tail(self.log_path)}"
                )
            if progress:
                progress(waited)
            time.sleep(0.3)

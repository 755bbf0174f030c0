"""Reports of runs for the pages: loaded if they exist, else made by a child process.

At most one report is made at a time, and never in the server's process.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from flask import current_app

from usl_backend.errors import MediaError, RunError, StudioUnreachableError, USLError
from usl_backend.runs import RunState
from usl_backend.settings import HOST_OPTIONS
from usl_backend.web.services import services

if TYPE_CHECKING:
    from pathlib import Path

    from usl_backend.instances import Instance
    from usl_backend.report.record import Report
    from usl_backend.report.sources import Read, Sources, Thumbnails
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings

logger = logging.getLogger(__name__)

EXTENSION: Final = "usl-reports"
KEPT: Final = 8
"""Number of runs whose report and index of instances are kept in memory."""
NICENESS: Final = 15
"""Added to the server's niceness for the process that makes a report, so that runs come first."""
PAUSE: Final = 10.0
"""Seconds without requests for the pictures of a host that did not respond."""
_PATIENCE: Final = 2.0
"""Seconds for which a page asks a busy host again for a picture."""
_TOKEN_SECONDS: Final = 5.0
"""Longest wait for Label Studio's access token before a picture."""
LOG: Final = "log.txt"
_SECRETS: Final = {"BASIC_AUTH_USER", *(option.environment for option in HOST_OPTIONS if option.secret)}


@dataclass(frozen=True)
class Shown:
    """Report of a run, with its instances and thumbnails."""

    report: Report
    sources: Sources
    thumbnails: Thumbnails


@dataclass(frozen=True)
class Awaited:
    """Reason why a run has no report.

    Attributes
    ----------
    making
        True if the report will appear by itself.
    message
        The reason in one sentence, for people.
    """

    making: bool
    message: str


class Reports:
    """Reports of one data directory.

    Parameters
    ----------
    host, store
        Host settings and run store.
    command
        Command line that makes a report; the run id is appended. MODEL_DIR gives it the data directory.
    """

    def __init__(
        self,
        host: HostSettings,
        store: RunStore,
        *,
        command: Sequence[str] = (sys.executable, "-m", "usl_backend", "report"),
    ) -> None:
        self._host, self._store, self._command = host, store, tuple(command)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[int, Shown]] = OrderedDict()
        self._process: tuple[str, subprocess.Popen[bytes]] | None = None
        self._failed: dict[str, str] = {}
        self._media = ExitStack()
        self._readers: dict[str, Read] = {}
        self._silent_until: dict[tuple[str, str], float] = {}

    def get(self, run: Run) -> Shown | Awaited:
        """Return the run's report, or the reason why there is none; start to make it if possible."""
        from usl_backend.report.record import FOLDER, TEXT, load
        from usl_backend.report.sources import Sources, Thumbnails

        if run.state.is_active:
            return Awaited(True, f"The run is {run.state.value}; its report is made when it is done.")
        if run.state is not RunState.DONE:
            ended = "failed" if run.state is RunState.FAILED else f"was {run.state.value}"
            return Awaited(False, f"The run {ended} before it was done, so it has no report; resume it.")
        files = self._store.files(run.id)
        with self._lock:
            stamp = _stamp(files.directory / FOLDER / TEXT)
            known = self._known.get(run.id)
            if known is not None and known[0] == stamp:
                self._known.move_to_end(run.id)
                return known[1]
            report = load(files)
            listed = files.has_instances()
            if report is not None and listed:
                sources = Sources(files)
                thumbnails = Thumbnails(files, sources, self._reader(run), limits=self._host.media_limits)
                shown = Shown(report, sources, thumbnails)
                self._known[run.id] = (stamp, shown)
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
                return shown
            if not (listed and files.has_pool() and files.has_selection()):
                return Awaited(
                    False, "The run's files were removed to free disk space; start a new run for a report."
                )
            return self._make(run.id)

    def again(self, run: Run) -> None:
        """Forget that a report failed, so that it is tried again."""
        with self._lock:
            self._failed.pop(run.id, None)

    def close(self) -> None:
        """Stop the report being made and close the media readers."""
        with self._lock:
            if self._process is not None:
                self._process[1].terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process[1].wait(10)
                self._process = None
            self._media.close()
            self._readers.clear()

    def _make(self, run_id: str) -> Awaited:
        """Start the process that makes the report, or return the status of the current one."""
        from usl_backend.report.record import FOLDER, load

        if self._process is not None and self._process[1].poll() is not None:
            ended, process = self._process
            self._process = None
            if process.returncode != 0:
                self._failed[ended] = _last_line(self._store.run_directory(ended) / FOLDER / LOG)
            elif load(self._store.files(ended)) is None:
                # Made again, it would be lacking again, and again.
                self._failed[ended] = "its process left no report that can be read"
            if ended in self._failed:
                logger.warning("the report of %s could not be made: %s", ended, self._failed[ended])
        if run_id in self._failed:
            return Awaited(False, f"The report could not be made: {self._failed[run_id]}")
        if self._process is None:
            self._process = (run_id, self._start(run_id, self._store.run_directory(run_id) / FOLDER))
        if self._process[0] == run_id:
            return Awaited(True, "The report is being made; this takes seconds to a few minutes.")
        return Awaited(True, f"The report waits for that of run {self._process[0]}.")

    def _start(self, run_id: str, directory: Path) -> subprocess.Popen[bytes]:
        """Start the process that makes a report, without secrets in its environment."""
        directory.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        environment["MODEL_DIR"] = str(self._host.model_dir)
        with (directory / LOG).open("wb") as log:
            process = subprocess.Popen(
                [*self._command, run_id],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        with suppress(OSError):
            os.setpriority(
                os.PRIO_PROCESS, process.pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
            )
        return process

    def _reader(self, run: Run) -> Read:
        """Return a function that reads the bytes of a run's instances."""
        return lambda instance: self._bytes(run, instance)

    def _bytes(self, run: Run, instance: Instance) -> bytes:
        """Read the bytes of an instance; readers are opened on first use, one for all projects."""
        from usl_backend.media import UnavailableError
        from usl_backend.sources.media import open_run_media

        place = run.id if run.pool else ""
        # Tasks may name an address of Label Studio that was told since the last reader was opened.
        opened = place or " ".join(sorted(self._store.public_addresses()))
        if opened not in self._readers:
            with self._lock:
                if opened not in self._readers:
                    opening = open_run_media(
                        self._host,
                        self._store.files(run.id),
                        patience=_PATIENCE,
                        token_seconds=_TOKEN_SECONDS,
                    )
                    try:
                        self._readers[opened] = self._media.enter_context(opening).read
                    except USLError as error:
                        raise MediaError(str(error)) from error
        source = place, _host_of(instance.source)
        if time.monotonic() < self._silent_until.get(source, 0.0):
            raise MediaError("the host of the picture did not respond; trying again soon")
        try:
            return self._readers[opened](instance)
        except (UnavailableError, StudioUnreachableError):
            # A page of pictures must not block every thread of the server, one after the other.
            now = time.monotonic()
            self._silent_until = {one: until for one, until in self._silent_until.items() if until > now}
            self._silent_until[source] = now + PAUSE
            raise


def reports() -> Reports:
    """Return the reports of the current app."""
    found = current_app.extensions.get(EXTENSION)
    if found is None:
        made = Reports(services().host, services().store)
        found = current_app.extensions.setdefault(EXTENSION, made)
        if found is made:
            atexit.register(made.close)
    assert isinstance(found, Reports)
    return found


def shown(run: Run) -> Shown:
    """Return the run's report for the API, which does not wait.

    Raises
    ------
    RunError
        The report does not exist (yet).
    """
    found = reports().get(run)
    if isinstance(found, Awaited):
        raise RunError(f"run {run.id} has no report yet. {found.message}")
    return found


def _host_of(source: str) -> str:
    """Return the host that an address names; "" for a path, also for one of Label Studio's own."""
    try:
        return urlsplit(source).netloc
    except ValueError:
        return ""


def _stamp(path: Path) -> int:
    """Return a file's modification time in ns; 0 if there is no file."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _last_line(path: Path) -> str:
    """Return the last line of a log."""
    lines: list[str] = []
    with suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300].removeprefix("error: ") if lines else "its process wrote no message"

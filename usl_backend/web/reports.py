"""Reports of runs for the pages: read when they are there, made by a process of their own when not.

Nothing is computed in the server's process, and at most one report is made at a time.
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

from flask import current_app

from usl_backend.errors import MediaError, RunError, StudioUnreachableError, USLError
from usl_backend.media import UnavailableError
from usl_backend.report.record import FOLDER, TEXT, Report, load
from usl_backend.report.sources import Read, Sources, Thumbnails
from usl_backend.runs import RunState
from usl_backend.settings import OPTIONS
from usl_backend.sources.media import open_run_media
from usl_backend.web.services import services

if TYPE_CHECKING:
    from pathlib import Path

    from usl_backend.instances import Instance
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings

logger = logging.getLogger(__name__)

EXTENSION: Final = "usl-reports"
KEPT: Final = 8
"""Runs whose report and index of instances are held in memory."""
NICENESS: Final = 15
"""Added to the server's for the process that makes a report: runs come first."""
PAUSE: Final = 10.0
"""Seconds in which no picture is asked for after nobody answered."""
LOG: Final = "log.txt"
_SECRETS: Final = {"BASIC_AUTH_USER", *(option.environment for option in OPTIONS if option.secret)}


@dataclass(frozen=True)
class Shown:
    """What the pages need of a run whose report is there."""

    report: Report
    sources: Sources
    thumbnails: Thumbnails


@dataclass(frozen=True)
class Awaited:
    """Why a run's report is not there.

    Attributes
    ----------
    making
        Whether it comes by itself.
    message
        One sentence for people.
    """

    making: bool
    message: str


class Reports:
    """Reports of one data directory.

    Parameters
    ----------
    host, store
        Where media and runs are.
    command
        What makes a report; the run's id is appended. It finds the data directory in MODEL_DIR.
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
        self._silent_until = 0.0

    def get(self, run: Run) -> Shown | Awaited:
        """The run's report, or why it is not there; begins to make it where it can be made."""
        if run.state.is_active:
            return Awaited(True, f"The run is {run.state.value}; its report is made when it is over.")
        if run.state is not RunState.DONE:
            ended = "failed" if run.state is RunState.FAILED else f"was {run.state.value}"
            return Awaited(
                False, f"The run {ended} before it was done, so there is nothing to report; resume it."
            )
        files = self._store.files(run.id)
        with self._lock:
            stamp = _stamp(files.directory / FOLDER / TEXT)
            known = self._known.get(run.id)
            if known is not None and known[0] == stamp:
                self._known.move_to_end(run.id)
                return known[1]
            report = load(files)
            if report is not None and files.has_instances():
                sources = Sources(files)
                thumbnails = Thumbnails(files, sources, self._reader(run), limits=self._host.media_limits)
                shown = Shown(report, sources, thumbnails)
                self._known[run.id] = (stamp, shown)
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
                return shown
            if not (files.has_pool() and files.has_selection()):
                return Awaited(False, "The run's files were removed to make room; select again for a report.")
            return self._make(run.id, files.directory / FOLDER)

    def again(self, run: Run) -> None:
        """Forget that a report could not be made, so that it is tried again."""
        with self._lock:
            self._failed.pop(run.id, None)

    def close(self) -> None:
        """End what is being made and close what is open."""
        with self._lock:
            if self._process is not None:
                self._process[1].terminate()
                with suppress(subprocess.TimeoutExpired):
                    self._process[1].wait(10)
                self._process = None
            self._media.close()
            self._readers.clear()

    def _make(self, run_id: str, directory: Path) -> Awaited:
        """Start the process, or say how the one under way is doing."""
        if self._process is not None and self._process[1].poll() is not None:
            ended, process = self._process
            self._process = None
            if process.returncode != 0:
                self._failed[ended] = _last_line(self._store.run_directory(ended) / FOLDER / LOG)
                logger.warning("the report of %s could not be made: %s", ended, self._failed[ended])
        if run_id in self._failed:
            return Awaited(False, f"The report could not be made: {self._failed[run_id]}")
        if self._process is None:
            self._process = (run_id, self._start(run_id, directory))
        if self._process[0] == run_id:
            return Awaited(True, "The report is being made; this takes seconds to a few minutes.")
        return Awaited(True, f"The report waits for that of run {self._process[0]}.")

    def _start(self, run_id: str, directory: Path) -> subprocess.Popen[bytes]:
        """The process that makes a report; it needs no secret, and gets none."""
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
        """Reads the bytes behind the instances of a run."""
        return lambda instance: self._bytes(run, instance)

    def _bytes(self, run: Run, instance: Instance) -> bytes:
        """Bytes behind an instance, by a reader that is opened when first needed: one for all of Label Studio."""
        place = run.id if run.pool else ""
        if place not in self._readers:
            with self._lock:
                if place not in self._readers:
                    opening = open_run_media(self._host, self._store.files(run.id))
                    try:
                        self._readers[place] = self._media.enter_context(opening).read
                    except USLError as error:
                        raise MediaError(str(error)) from error
        if time.monotonic() < self._silent_until:
            raise MediaError("whoever has the pictures did not answer just now; trying again soon")
        try:
            return self._readers[place](instance)
        except (UnavailableError, StudioUnreachableError):
            # a page of pictures must not keep every thread of the server waiting, one after the other
            self._silent_until = time.monotonic() + PAUSE
            raise


def reports() -> Reports:
    """The reports of the app that answers the current request."""
    found = current_app.extensions.get(EXTENSION)
    if found is None:
        made = Reports(services().host, services().store)
        found = current_app.extensions.setdefault(EXTENSION, made)
        if found is made:
            atexit.register(made.close)
    assert isinstance(found, Reports)
    return found


def shown(run: Run) -> Shown:
    """The run's report for the API, which does not wait.

    Raises
    ------
    RunError
        It is not there (yet).
    """
    found = reports().get(run)
    if isinstance(found, Awaited):
        raise RunError(f"run {run.id} has no report yet. {found.message}")
    return found


def _stamp(path: Path) -> int:
    """Changes when the file does; 0 without one."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _last_line(path: Path) -> str:
    """What a process wrote last."""
    lines: list[str] = []
    with suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300].removeprefix("error: ") if lines else "its process said nothing"

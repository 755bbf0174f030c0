"""Labeling of the projects that somebody looks at: read by one thread, at most every few seconds for all viewers."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from flask import current_app

from usl_backend.errors import StudioError, USLError
from usl_backend.web.reports import Awaited, reports
from usl_backend.web.services import STUDIO_SECONDS, services

if TYPE_CHECKING:
    from collections.abc import Callable

    from usl_backend.labeling.reading import Owner
    from usl_backend.labeling.state import LabelingState
    from usl_backend.report.record import Report
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings
    from usl_backend.sinks.standing import Standing
    from usl_backend.studio.annotated import AnnotatedTasks
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import Project

logger = logging.getLogger(__name__)

EXTENSION: Final = "usl-projects"
FRESH: Final = 2.0
"""Seconds for which an answer is good at least."""
SHARE: Final = 2
"""Label Studio rests so many times as long as reading takes: large projects are read less often."""
_RECENT: Final = 3
"""Readings of which the quickest tells how long one takes: the first one reads everything, others meet a busy host."""
PATIENCE: Final = 4.0
"""Seconds for which a request waits for the first reading."""
_LATER: Final = 1.0
"""Seconds for which it waits for a newer one."""
STANDING: Final = 20.0
"""Seconds for which the state of the queue, names and deleted tasks are good."""
KEPT: Final = 32
"""Projects of which the annotations are kept in memory."""


@dataclass(frozen=True)
class Seen:
    """What a page shows of a project's labeling.

    Attributes
    ----------
    state
        As it was read last; None if it could not be read yet.
    error
        Why the last attempt failed; None if it did not.
    every
        Whole seconds between two readings while somebody looks.
    """

    state: LabelingState | None
    error: USLError | None
    every: int

    @property
    def problem(self) -> str:
        """The error for people; "" without one."""
        return "" if self.error is None else str(self.error)


@dataclass
class _Watched:
    """One project."""

    id: int
    tasks: AnnotatedTasks
    state: LabelingState | None = None
    error: USLError | None = None
    every: float = FRESH
    read_at: float = float("-inf")
    asked: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    took: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    now: tuple[float, Standing, frozenset[int], int] | None = None
    known: tuple[object, ...] = ()


class ProjectWatch:
    """Labeling of projects, read on demand.

    Parameters
    ----------
    host, store
        Host settings and run store.
    report_of
        Returns the report of a run; None if it is not made yet.
    """

    def __init__(
        self, host: HostSettings, store: RunStore, *, report_of: Callable[[Run], Report | None]
    ) -> None:
        self._host, self._store, self._report_of = host, store, report_of
        self._lock = threading.Lock()
        self._watched: OrderedDict[int, _Watched] = OrderedDict()
        self._queue: SimpleQueue[_Watched] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._client: StudioClient | None = None
        self._names: tuple[float, dict[int, str]] = (float("-inf"), {})

    def look(self, project: int) -> Seen:
        """Return the labeling of a project, read again if the last reading is too old and the next one is quick."""
        watched = self._of(project)
        if time.monotonic() >= watched.read_at + watched.every:
            self._ask(watched)
            watched.done.wait(PATIENCE if watched.state is None else _LATER)
        return Seen(watched.state, watched.error, math.ceil(watched.every))

    def forget(self, project: int) -> None:
        """Look at the queue again at the next call: something was changed from here."""
        watched = self._of(project)
        watched.now, watched.read_at = None, float("-inf")

    def _of(self, project: int) -> _Watched:
        """Return what is known of a project; the one that was looked at longest ago is dropped."""
        from usl_backend.studio.annotated import AnnotatedTasks

        with self._lock:
            watched = self._watched.setdefault(project, _Watched(project, AnnotatedTasks(project)))
            self._watched.move_to_end(project)
            while len(self._watched) > KEPT:
                self._watched.popitem(last=False)
            return watched

    def _ask(self, watched: _Watched) -> None:
        """Let the thread read a project, once for all who ask."""
        with self._lock:
            if watched.asked:
                return
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="projects", daemon=True)
                thread.start()
                self._thread = thread
            watched.asked = True
            watched.done.clear()
        self._queue.put(watched)

    def _work(self) -> None:
        """Run the thread's loop."""
        while True:
            watched = self._queue.get()
            begun = time.monotonic()
            try:
                watched.state, watched.error = self._read(watched), None
            except USLError as error:
                watched.error = error
            except Exception:
                logger.exception("the labeling of project %d could not be read", watched.id)
                watched.error = USLError("unexpected error; the server's log has the trace")
            ended = time.monotonic()
            watched.took.append(ended - begun)
            watched.every = max(FRESH, SHARE * min(watched.took))
            watched.read_at = ended
            with self._lock:
                watched.asked = False
                watched.done.set()

    def _read(self, watched: _Watched) -> LabelingState:
        """Read a project."""
        from usl_backend.labeling.reading import labeling_state, owner_of
        from usl_backend.studio.annotated import AnnotatedTasks
        from usl_backend.studio.client import StudioClient

        if self._client is None:
            self._client = StudioClient.from_settings(self._host, attempts=1, timeout=STUDIO_SECONDS)
        client = self._client
        project = client.project(watched.id)
        if watched.known[:1] not in ((), (project.key,)):
            watched.tasks, watched.now = AnnotatedTasks(watched.id), None  # another project has its id
        watched.tasks.update(client)
        owner = owner_of(self._store, project)
        found, gone, behind = self._standing(client, watched, project, owner)
        return labeling_state(
            project,
            watched.tasks.tasks,
            store=self._store,
            owner=owner,
            standing=found,
            names=self._named(client),
            gone=gone,
            waiting=behind,
            report=None if owner is None else self._report_of(owner.run),
        )

    def _standing(
        self, client: StudioClient, watched: _Watched, project: Project, owner: Owner | None
    ) -> tuple[Standing, frozenset[int], int]:
        """Return the state of the queue, its deleted tasks and how many wait; asked for again after changes."""
        from usl_backend.labeling.reading import deleted, waiting
        from usl_backend.sinks.standing import Standing, standing

        run = None if owner is None else owner.run
        known = (
            project.key,
            project.model_version,
            project.sampling,
            project.task_number,
            None if run is None else (run.id, run.state, owner and owner.state.extended),
        )
        fresh = watched.now is not None and time.monotonic() < watched.now[0] + max(STANDING, watched.every)
        if watched.now is None or not fresh or known != watched.known:
            try:
                found = standing(client, project, store=self._store)
            except StudioError as error:
                found = Standing("unknown", "" if run is None else run.id, str(error))
            gone = deleted(client, project, owner, watched.tasks.tasks)
            watched.now = (time.monotonic(), found, gone, waiting(client, owner))
            watched.known = known
        return watched.now[1:]

    def _named(self, client: StudioClient) -> dict[int, str]:
        """Return the names of users; asked for again now and then."""
        from usl_backend.studio.annotated import annotator_names

        if time.monotonic() > self._names[0] + 10 * STANDING:
            self._names = (time.monotonic(), annotator_names(client))
        return self._names[1]


def project_watch() -> ProjectWatch:
    """Return the watch of the current app."""
    found = current_app.extensions.get(EXTENSION)
    if found is None:
        kept = reports()

        def report_of(run: Run) -> Report | None:
            shown = kept.get(run)
            return None if isinstance(shown, Awaited) else shown.report

        made = ProjectWatch(services().host, services().store, report_of=report_of)
        found = current_app.extensions.setdefault(EXTENSION, made)
    assert isinstance(found, ProjectWatch)
    return found

"""Eight annotators at work while re-runs publish: nothing they submit is lost, and the backend does not slow them.

By hand: `pytest -m slow --log-cli-level=INFO tests/live/test_many_annotators.py`, also with
TEST_LABEL_STUDIO_DATABASE=postgresql. The second test compares times: run it where nothing else runs.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from live_studio import LiveProject, LiveStudio, choice
from shell import Shell, local

from usl_backend.demo.annotators import hire
from usl_backend.demo.studio_server import free_port
from usl_backend.errors import StudioError
from usl_backend.studio import backend
from usl_backend.studio.client import StudioClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
logger = logging.getLogger(__name__)

MakeProject = Callable[..., LiveProject]
ANNOTATORS = 8
PAUSE = 2.0
"""Seconds an annotator looks at a task beside the re-runs: without it all tasks were labeled before the second one."""
TASKS, EACH, SLOWER = 300, 12, 1.2
ROUNDS = 4
"""Each has every kind of project once; the order turns around from one to the next, because Label Studio slows down as
its database grows and other load on the machine changes."""


@dataclass
class Work:
    """What the annotators did, and the CPU seconds that the processes used for it."""

    opened: list[float] = field(default_factory=list)
    submitted: list[float] = field(default_factory=list)
    made: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)

    @property
    def p95(self) -> float:
        """Of the submits, in seconds."""
        return _share(self.submitted, 0.95)

    def __str__(self) -> str:
        times = ", ".join(
            f"{name} p50 {_share(seconds, 0.5):.3f} p95 {_share(seconds, 0.95):.3f} s"
            for name, seconds in (("open", self.opened), ("submit", self.submitted))
        )
        used = (
            f"; {name} {1000 * spent / len(self.made):.1f} CPU ms a task" for name, spent in self.cpu.items()
        )
        return f"{len(self.made)} tasks: {times}{''.join(used)}"


def at_work(
    annotators: list[StudioClient],
    project: LiveProject,
    work: Work,
    *,
    until: Callable[[int], bool],
    processes: dict[str, int] | None = None,
) -> None:
    """All annotators label until each is told to stop."""

    def label(annotator: StudioClient) -> None:
        done = 0
        while not until(done):
            try:
                begun = time.monotonic()
                task = annotator.next_task(project.id)
                if task is None:
                    return
                opened = time.monotonic()
                made = annotator.annotate(int(task["id"]), [choice("cat")])
                work.opened.append(opened - begun)
                work.submitted.append(time.monotonic() - opened)
                work.made.append(made)
            except StudioError as error:
                work.errors.append(str(error))
            done += 1

    before = {name: _cpu_seconds(process) for name, process in (processes or {}).items()}
    with ThreadPoolExecutor(len(annotators)) as hands:
        list(hands.map(label, annotators))
    for name, process in (processes or {}).items():
        work.cpu[name] = work.cpu.get(name, 0.0) + _cpu_seconds(process) - before[name]


def _share(seconds: list[float], share: float) -> float:
    return sorted(seconds)[int(share * (len(seconds) - 1))]


def _cpu_seconds(process: int) -> float:
    """User and system time of a process so far."""
    spent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")


def _started_on(url: str) -> int:
    """Process of the Label Studio at an address of this machine."""
    port = f"\0--port\0{urlsplit(url).port}\0".encode()
    for found in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if port in found.read_bytes():
                return int(found.parent.name)
    raise AssertionError(f"no process was started for {url}")


def _await_answer(address: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        with suppress(requests.ConnectionError):
            if requests.get(f"{address}/livez", timeout=5).ok:
                return
        assert time.monotonic() < deadline, f"{address} does not answer"
        time.sleep(0.1)


@contextmanager
def served(shell: Shell) -> Iterator[tuple[str, int]]:
    """The backend as a server of its own; its address and process."""
    port = free_port()
    shell.environment["BASIC_AUTH_USER"], shell.environment["BASIC_AUTH_PASS"] = "usl", "pw-secret-123"
    server = shell.spawn("serve", "--port", port)
    address = f"http://127.0.0.1:{port}"
    try:
        _await_answer(address)
        yield address, server.pid
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture
def annotators(client: StudioClient) -> Iterator[list[StudioClient]]:
    """Eight people, whose browsers ask once."""
    hired = hire(client, ANNOTATORS)
    for one in hired:
        one.http.attempts = 1
    yield hired
    for one in hired:
        one.close()


def test_while_two_runs_publish__nothing_is_lost(
    shell: Shell, make_project: MakeProject, pictures: list[str], annotators: list[StudioClient]
) -> None:
    project = make_project(data=[local(name) for name in pictures[:TASKS]])
    asked = ("select", project.id, "--budget", 60, "--reserve", 20)
    assert shell(*asked).code == 0
    over, work = threading.Event(), Work()
    failed: list[str] = []
    submits: list[int] = []

    def rerun() -> None:
        try:
            for seed in (1, 2):
                child = shell.spawn(*asked, "--seed", seed)
                _, told = child.communicate(timeout=900)
                if child.returncode:
                    failed.append(told)
                submits.append(len(work.made))
        finally:
            over.set()

    runner = threading.Thread(target=rerun)
    runner.start()
    at_work(annotators, project, work, until=lambda _: over.wait(PAUSE))
    runner.join()
    assert failed == []
    logger.info("beside two re-runs, %s; %d errors", work, len(work.errors))
    assert 0 < submits[0] < submits[1] < TASKS - len(annotators), "nobody was at work, or nothing was left"
    assert work.errors == []
    kept = {
        annotation["id"] for task in project.client.labeled(project.id) for annotation in task.annotations
    }
    assert set(work.made) <= kept, "lost"
    latest = shell.store.latest(project.id)
    assert latest is not None
    assert project.now.model_version == latest.summary.model_version
    stored = list(project.model_versions())
    assert stored[0] == latest.summary.model_version
    assert len(stored) == 2, "the one before last is gone"


def test_submit__no_slower_beside_the_backend(
    label_studio: LiveStudio,
    shell: Shell,
    make_project: MakeProject,
    pictures: list[str],
    annotators: list[StudioClient],
) -> None:
    """All click without a pause, so the times are those of a Label Studio that is never idle.

    Bounded are those while a queue is in force: then nobody asks the backend. Before the first publish Label Studio
    asks it for each task that is opened, /health, /setup and /predict; what that costs is only told.
    """
    own = {"Label Studio": _started_on(label_studio.url), "annotators": os.getpid()}
    works = {(queued, connected): Work() for queued in (True, False) for connected in (False, True)}

    def once(*, queued: bool, address: str | None, processes: dict[str, int]) -> None:
        project = make_project(data=[local(name) for name in pictures[:TASKS]])
        if address:
            backend.connect(project.client, project.id, address, basic_auth=("usl", "pw-secret-123"))
        if queued:
            asked = ("select", project.id, "--budget", ANNOTATORS * EACH, "--reserve", 20)
            assert shell(*asked).code == 0
        work = works[queued, address is not None]
        at_work(annotators, project, work, until=lambda done: done >= EACH, processes=processes)
        kind = f"{'queue in force' if queued else 'nothing published'}, {'beside' if address else 'without'}"
        logger.info("%s the backend, so far %s", kind, work)

    def without_it() -> None:
        for queued in (True, False):
            once(queued=queued, address=None, processes=own)

    def beside_it() -> None:
        with served(shell) as (address, process):
            for queued in (True, False):
                once(queued=queued, address=address, processes={**own, "backend": process})

    turns = [without_it, beside_it]
    for _ in range(ROUNDS):
        for turn in turns:
            turn()
        turns.reverse()
    assert [work.errors for work in works.values()] == [[]] * len(works)
    beside, without = works[True, True], works[True, False]
    assert beside.cpu["backend"] < 0.001 * len(beside.made), "it was asked"
    ratio = beside.p95 / without.p95
    assert ratio <= SLOWER, "on a machine with other load this is chance"

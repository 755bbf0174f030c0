"""Eight annotators at work while re-runs publish: nothing they submit is lost, and the backend does not slow them.

By hand: `pytest -m slow --log-cli-level=INFO tests/live/test_many_annotators.py`, also with
TEST_LABEL_STUDIO_DATABASE=postgresql.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest
import requests
from live_studio import LiveProject, choice
from shell import Shell, local

from usl_backend.demo.annotators import hire
from usl_backend.demo.studio_server import free_port
from usl_backend.errors import StudioError
from usl_backend.studio import backend
from usl_backend.studio.client import StudioClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
logger = logging.getLogger(__name__)

MakeProject = Callable[..., LiveProject]
ANNOTATORS, TASKS, EACH, SLOWER = 8, 300, 15, 1.2
ROUNDS = 3
"""Pairs of a round without and one with the backend, in turn, because other load on the machine changes."""


@dataclass
class Work:
    """What the annotators did."""

    seconds: list[float] = field(default_factory=list)
    made: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    served: list[int] = field(default_factory=list)

    @property
    def p95(self) -> float:
        return sorted(self.seconds)[int(0.95 * (len(self.seconds) - 1))]


def at_work(
    annotators: list[StudioClient], project: LiveProject, work: Work, *, until: Callable[[int], bool]
) -> None:
    """All annotators label until each is told to stop."""

    def label(annotator: StudioClient) -> None:
        done = 0
        while not until(done):
            try:
                task = annotator.next_task(project.id)
                if task is None:
                    return
                begun = time.monotonic()
                made = annotator.annotate(int(task["id"]), [choice("cat")])
                work.seconds.append(time.monotonic() - begun)
                work.made.append(made)
                work.served.append(int(task["id"]))
            except StudioError as error:
                work.errors.append(str(error))
            done += 1

    with ThreadPoolExecutor(len(annotators)) as hands:
        list(hands.map(label, annotators))


@contextmanager
def served(shell: Shell) -> Iterator[str]:
    """The backend as a server of its own; its address."""
    port = free_port()
    shell.environment["BASIC_AUTH_USER"], shell.environment["BASIC_AUTH_PASS"] = "usl", "pw-secret-123"
    server = shell.spawn("serve", "--port", port)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(requests.ConnectionError):
            if requests.get(f"{address}/livez", timeout=5).ok:
                break
        time.sleep(0.1)
    try:
        yield address
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

    def rerun() -> None:
        try:
            for seed in (1, 2):
                child = shell.spawn(*asked, "--seed", seed)
                _, told = child.communicate(timeout=900)
                if child.returncode:
                    failed.append(told)
        finally:
            over.set()

    runner = threading.Thread(target=rerun)
    runner.start()
    at_work(annotators, project, work, until=lambda _: over.is_set())
    runner.join()
    assert failed == []
    logger.info(
        "%d submits beside two runs: p95 %.2f s, %d errors", len(work.made), work.p95, len(work.errors)
    )
    assert work.errors == []
    kept = {
        annotation["id"] for task in project.client.labeled(project.id) for annotation in task.annotations
    }
    assert set(work.made) <= kept, "lost"
    latest = shell.store.latest(project.id)
    assert latest is not None
    assert project.now.model_version == latest.summary.model_version
    assert list(project.model_versions()) == [latest.summary.model_version]


def test_submit__no_slower_beside_the_backend(
    shell: Shell, make_project: MakeProject, pictures: list[str], annotators: list[StudioClient]
) -> None:
    without, beside = Work(), Work()

    def once(work: Work, address: str | None) -> None:
        project = make_project(data=[local(name) for name in pictures[:TASKS]])
        if address is not None:
            backend.connect(project.client, project.id, address, basic_auth=("usl", "pw-secret-123"))
        at_work(annotators, project, work, until=lambda done: done >= EACH)

    for _ in range(ROUNDS):
        once(without, None)
        with served(shell) as address:
            once(beside, address)
    logger.info(
        "submit of %d annotators, %d each: p95 %.2f s without, %.2f s beside the backend",
        ANNOTATORS, len(beside.seconds), without.p95, beside.p95,
    )  # fmt: skip
    assert (without.errors, beside.errors) == ([], [])
    assert beside.p95 <= SLOWER * without.p95

"""Label Studio on PostgreSQL: all tests of the queue, and annotators who ask at the very same moment.

By hand: `pytest -m slow --log-cli-level=INFO tests/live/test_postgres.py`. Each needs minutes for Label Studio's
migrations alone.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from live_studio import LiveProject, choice
from shell import Shell, local

from usl_backend.demo.annotators import hire

logger = logging.getLogger(__name__)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

HERE = Path(__file__).parent
FILES = (
    "test_postgres.py",
    "test_studio_queue.py",
    "test_two_installations.py",
    "test_queue_standing.py",
    "test_changed_meanwhile.py",
    "test_control_set.py",
    "test_extend.py",
    "test_label_studio_faults.py",
    "test_many_annotators.py",
)
LEFT_OUT = ("every_pair", "no_slower")
"""Tests that take half an hour on SQLite already, and whose times mean something only where nothing else runs."""
BUDGET, RESERVE = 40, 20


def test_queue_tests__pass_on_postgresql(database: Mapping[str, str] | None) -> None:
    if database is not None:
        pytest.skip("this is that run")
    some = " and ".join(f"not {name}" for name in LEFT_OUT)
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-m", "live or slow", "-k", some]
    done = subprocess.run(
        [*command, *(str(HERE / name) for name in FILES)],
        env={**os.environ, "TEST_LABEL_STUDIO_DATABASE": "postgresql"},
        cwd=HERE.parent.parent,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    logger.info("%s", done.stdout.strip().rpartition("\n")[2])


@pytest.mark.parametrize("count", [2, 4])
def test_annotators_at_once__never_get_the_same_pick(
    database: Mapping[str, str] | None,
    shell: Shell,
    make_project: Callable[..., LiveProject],
    pictures: list[str],
    count: int,
) -> None:
    if database is None:
        pytest.skip("SQLite's locks do not hold at the same moment")
    project = make_project(data=[local(name) for name in pictures[:200]])
    told = shell("select", project.id, "--budget", BUDGET, "--reserve", RESERVE)
    assert told.code == 0, told.err
    run = shell.store.latest(project.id)
    assert run is not None
    picks = shell.store.files(run.id).read_published().queue.of_role("pick")
    annotators = hire(project.client, count)
    together = threading.Barrier(count)

    def label(place: int) -> list[int]:
        """Ask at the same moment as the others, then submit, each round."""
        served = []
        for _ in range(BUDGET // count):
            together.wait(timeout=120)
            task = annotators[place].next_task(project.id)
            assert task is not None
            served.append(int(task["id"]))
            together.wait(timeout=120)
            annotators[place].annotate(served[-1], [choice("cat")])
        return served

    with ThreadPoolExecutor(count) as hands:
        served = list(hands.map(label, range(count)))
    flat = [task for tasks in served for task in tasks]
    assert len(flat) == len(set(flat)) == BUDGET
    # in each round they get the ranks that are next
    for round_ in range(BUDGET // count):
        assert {tasks[round_] for tasks in served} == set(picks[count * round_ : count * (round_ + 1)])
    for annotator in annotators:
        annotator.close()
    assert shell("reset", project.id).code == 0
    assert (project.now.sampling, project.model_versions()) == ("Sequential sampling", {})

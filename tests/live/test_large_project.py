"""A project of 100,000 tasks from listing to export, and its suggestions: wall time and peak memory of each stage.

By hand: `pytest -m slow --log-cli-level=INFO tests/live/test_large_project.py`, also with
TEST_LABEL_STUDIO_DATABASE=postgresql; TEST_LARGE_PROJECT_TASKS=20000 takes fewer tasks.
"""

import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_studio import LiveProject
from numpy.typing import NDArray
from shell import Shell

from usl_backend.studio.client import StudioClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
logger = logging.getLogger(__name__)

TASKS = int(os.environ.get("TEST_LARGE_PROJECT_TASKS", "100000"))
NEW, WIDTH, BUDGET, LABELED = 1_000, 64, 1_000, 100
WRITTEN = 3 * TASKS // 10
"""Suggestions after which the first attempt is killed."""
ENCODER = ("--encoder", "precomputed:rows.npy@row")
LIMIT = 24 << 30
CONFIG = """<View><Text name="text" value="$text"/>
<Choices name="choice" toName="text"><Choice value="one"/><Choice value="two"/></Choices></View>"""
IMPORTED = 20_000


def fill(client: StudioClient, project: int, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, IMPORTED):
        part = range(start, min(start + IMPORTED, numbers.stop))
        body = [{"data": {"text": f"text {number}", "row": number}} for number in part]
        client.http.json("POST", f"/api/projects/{project}/import", body=body)


def watched(shell: Shell, project: int, *words: object) -> dict[str, tuple[float, int]]:
    """A verb in a process of its own: seconds and peak memory in bytes, as a whole and by stage of its run."""
    begun = time.monotonic()
    child = shell.spawn(*words)
    peak: dict[str, int] = defaultdict(int)

    def look() -> None:
        while child.poll() is None:
            run = shell.store.latest(project)
            stage = run.stage if run is not None and run.state.is_active and run.stage else str(words[0])
            try:
                pages = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                return
            peak[stage] = max(peak[stage], pages * 4096)
            time.sleep(0.1)

    watcher = threading.Thread(target=look)
    watcher.start()
    _, told = child.communicate()
    watcher.join()
    assert child.returncode == 0, told
    found = {str(words[0]): (time.monotonic() - begun, max(peak.values()))}
    run = shell.store.latest(project)
    if words[0] == "select" and run is not None and run.summary is not None:
        found |= {f"  {stage}": (taken, peak[stage]) for stage, taken in run.summary.seconds.items()}
    return found


def write_rows(shell: Shell) -> NDArray[np.int64]:
    """Save vectors in 200 clusters where `ENCODER` finds them; the cluster of each."""
    encoders = shell.data / "encoders"
    encoders.mkdir(parents=True)
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(200, WIDTH))
    cluster = rng.integers(0, 200, TASKS + NEW)
    rows = centers[cluster] + 0.4 * rng.normal(size=(TASKS + NEW, WIDTH))
    np.save(encoders / "rows.npy", rows.astype(np.float32))
    return cluster


def print_table(table: dict[str, tuple[float, int]]) -> None:
    for name, (seconds, memory) in table.items():
        logger.info("%-10s %7.1f s %6.2f GiB", name, seconds, memory / (1 << 30))
    assert max(memory for _, memory in table.values()) < LIMIT


def label(value: str) -> dict[str, Any]:
    return {"from_name": "choice", "to_name": "text", "type": "choices", "value": {"choices": [value]}}


def test_hundred_thousand_tasks__from_listing_to_export(
    shell: Shell, make_project: Callable[..., LiveProject], tmp_path: Path
) -> None:
    write_rows(shell)
    project = make_project(label_config=CONFIG)
    client = project.client
    fill(client, project.id, range(TASKS))
    assert project.now.task_number == TASKS

    table = watched(shell, project.id, "select", project.id, "--budget", BUDGET, *ENCODER)
    assert project.now.sampling == "Uncertainty sampling"
    run = shell.store.latest(project.id)
    assert run is not None
    queue = shell.store.files(run.id).read_published().queue
    assert len(queue.of_role("pick")) == BUDGET
    assert run.summary.verified.outcome == "first"
    assert project.model_versions() == {run.summary.model_version: len(queue)}

    for task in queue.of_role("pick")[:LABELED]:
        client.annotate(task, [label("one")])
    fill(client, project.id, range(TASKS, TASKS + NEW))
    table |= watched(shell, project.id, "extend", project.id)
    assert project.model_versions() == {run.summary.model_version: len(queue) + NEW}
    split = tmp_path / "split"
    table |= watched(shell, project.id, "export", project.id, "--format", "csv", "--output", split)
    assert len((split / "labeled.csv").read_text().splitlines()) == LABELED + 1
    assert len((split / "unlabeled.csv").read_text().splitlines()) == TASKS - LABELED + 1
    table |= watched(shell, project.id, "doctor", project.id)

    print_table(table)


def test_hundred_thousand_suggestions__killed_once_written_once_and_taken_back(
    shell: Shell, make_project: Callable[..., LiveProject]
) -> None:
    cluster = write_rows(shell)
    project = make_project(label_config=CONFIG)
    client = project.client
    fill(client, project.id, range(TASKS))
    told = shell("select", project.id, "--budget", LABELED + 1, "--reserve", 0, *ENCODER)
    assert told.code == 0, told.err
    run = shell.store.latest(project.id)
    assert run is not None
    queue = shell.store.files(run.id).read_published().queue
    in_force = run.summary.model_version
    first = min(task.id for task in client.tasks(project.id, only_unlabeled=False))
    for task in queue.of_role("pick")[:LABELED]:
        client.annotate(task, [label("two" if cluster[task - first] % 2 else "one")])

    begun = time.monotonic()
    child = shell.spawn("suggest", project.id)
    written: dict[str, int] = {}
    while sum(written.values()) < WRITTEN:
        assert child.poll() is None, child.communicate()
        time.sleep(0.5)
        written = {v: n for v, n in project.model_versions().items() if n and v != in_force}
    child.kill()
    child.wait()
    logger.info("killed after %.1f s: %s", time.monotonic() - begun, written)
    assert project.now.model_version == in_force
    assert project.model_versions()[in_force] == len(queue)

    table = watched(shell, project.id, "suggest", project.id)
    version = str(project.now.model_version)
    assert [version] == list(written), "what was written is kept"
    assert {v: n for v, n in project.model_versions().items() if n} == {version: TASKS, in_force: len(queue)}
    served = client.next_task(project.id)
    assert served is not None
    assert served["id"] == queue.of_role("pick")[LABELED]
    table |= watched(shell, project.id, "reset", project.id)
    assert not any(project.model_versions().values())
    assert project.now.sampling == "Sequential sampling"
    print_table(table)

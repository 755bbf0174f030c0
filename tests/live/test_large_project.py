"""A project of 100,000 tasks from listing to export: wall time and peak memory of each stage.

By hand: `pytest -m slow --log-cli-level=INFO tests/live/test_large_project.py`, also with
TEST_LABEL_STUDIO_DATABASE=postgresql.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from live_studio import LiveProject
from shell import Shell

from usl_backend.studio.client import StudioClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
logger = logging.getLogger(__name__)

TASKS, NEW, WIDTH, BUDGET, LABELED = 100_000, 1_000, 64, 1_000, 100
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


def test_hundred_thousand_tasks__from_listing_to_export(
    shell: Shell, make_project: Callable[..., LiveProject], tmp_path: Path
) -> None:
    encoders = shell.data / "encoders"
    encoders.mkdir(parents=True)
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(200, WIDTH))
    rows = centers[rng.integers(0, 200, TASKS + NEW)] + 0.4 * rng.normal(size=(TASKS + NEW, WIDTH))
    np.save(encoders / "rows.npy", rows.astype(np.float32))

    project = make_project(label_config=CONFIG)
    client = project.client
    fill(client, project.id, range(TASKS))
    assert project.now.task_number == TASKS

    encoder = ("--encoder", "precomputed:rows.npy@row")
    table = watched(shell, project.id, "select", project.id, "--budget", BUDGET, *encoder)
    assert project.now.sampling == "Uncertainty sampling"
    run = shell.store.latest(project.id)
    assert run is not None
    queue = shell.store.files(run.id).read_published().queue
    assert len(queue.of_role("pick")) == BUDGET
    assert run.summary.verified.outcome == "first"
    assert project.model_versions() == {run.summary.model_version: len(queue)}

    body = {"from_name": "choice", "to_name": "text", "type": "choices", "value": {"choices": ["one"]}}
    for task in queue.of_role("pick")[:LABELED]:
        client.annotate(task, [body])
    fill(client, project.id, range(TASKS, TASKS + NEW))
    table |= watched(shell, project.id, "extend", project.id)
    assert project.model_versions() == {run.summary.model_version: len(queue) + NEW}
    split = tmp_path / "split"
    table |= watched(shell, project.id, "export", project.id, "--format", "csv", "--output", split)
    assert len((split / "labeled.csv").read_text().splitlines()) == LABELED + 1
    assert len((split / "unlabeled.csv").read_text().splitlines()) == TASKS - LABELED + 1
    table |= watched(shell, project.id, "doctor", project.id)

    for name, (seconds, memory) in table.items():
        logger.info("%-10s %7.1f s %6.2f GiB", name, seconds, memory / (1 << 30))
    assert max(memory for _, memory in table.values()) < LIMIT

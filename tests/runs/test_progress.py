import threading
from pathlib import Path

import pytest

from usl_backend.errors import CancelledError
from usl_backend.runs import Run, RunStore
from usl_backend.runs.progress import INTERVAL, Progress


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


@pytest.fixture
def run(store: RunStore) -> Run:
    return store.claim(store.create(project=12, settings={}).id)


class Watch:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int, str | None]] = []

    def __call__(self, stage: str, done: int, total: int, step: str | None = None) -> None:
        self.seen.append((stage, done, total, step))


def test_progress__throttled_but_never_the_first_or_last_of_a_step(store: RunStore, run: Run) -> None:
    now = [100.0]
    watch = Watch()
    report = Progress(store, run.id, watch=watch, clock=lambda: now[0])
    for done in range(11):
        report("embed", done, 10)
        now[0] += INTERVAL / 4
    report("select", 0, 10, "k-means")
    report("select", 1, 10, "k-means")
    report("select", 0, 10, "picking")
    assert [done for stage, done, _, _ in watch.seen if stage == "embed"] == [0, 4, 8, 10]
    assert watch.seen[-2:] == [("select", 0, 10, "k-means"), ("select", 0, 10, "picking")]
    noted = store.get(run.id)
    assert (noted.stage, noted.done, noted.total, noted.step) == ("select", 0, 10, "picking")


def test_progress__stop_is_seen_at_the_next_call_although_throttled(store: RunStore, run: Run) -> None:
    stop = threading.Event()
    report = Progress(store, run.id, stop=stop, clock=lambda: 100.0)
    report("embed", 0, 10)
    report("embed", 1, 10)
    stop.set()
    with pytest.raises(CancelledError, match=f"run {run.id} was asked to stop"):
        report("embed", 2, 10)


def test_progress__cancelled_run_stops(store: RunStore, run: Run) -> None:
    report = Progress(store, run.id)
    report("fetch", 0, 10)
    store.cancel(run.id)
    with pytest.raises(CancelledError, match=f"run {run.id} was cancelled"):
        report("fetch", 10, 10)


def test_progress__part_that_only_counts(store: RunStore, run: Run) -> None:
    watch = Watch()
    Progress(store, run.id, watch=watch).of("publish", "writing the queue")(3, 7)
    assert watch.seen == [("publish", 3, 7, "writing the queue")]

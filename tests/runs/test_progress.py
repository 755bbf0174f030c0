import threading
from pathlib import Path

import pytest

from usl_backend.errors import CancelledError
from usl_backend.progress import Progress
from usl_backend.runs import Run, RunStore
from usl_backend.runs.progress import INTERVAL, RunProgress


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


@pytest.fixture
def run(store: RunStore) -> Run:
    return store.claim(store.create(project=12, settings={}).id)


class Watch:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int, int]] = []

    def __call__(self, stage: str) -> Progress:
        return lambda step, done, total: self.seen.append((stage, step, done, total))


def test_progress__throttled_but_never_the_first_or_last_of_a_step(store: RunStore, run: Run) -> None:
    now = [100.0]
    watch = Watch()
    progress = RunProgress(store, run.id, watch=watch, clock=lambda: now[0])
    embed, select = progress.stage("embed"), progress.stage("select")
    for done in range(11):
        embed("reading", done, 10)
        now[0] += INTERVAL / 4
    select("k-means", 0, 10)
    select("k-means", 1, 10)
    select("picking", 0, 10)
    assert [done for stage, _, done, _ in watch.seen if stage == "embed"] == [0, 4, 8, 10]
    assert watch.seen[-2:] == [("select", "k-means", 0, 10), ("select", "picking", 0, 10)]
    noted = store.get(run.id)
    assert (noted.stage, noted.done, noted.total, noted.step) == ("select", 0, 10, "picking")


def test_progress__stop_is_seen_at_the_next_call_although_throttled(store: RunStore, run: Run) -> None:
    stop = threading.Event()
    report = RunProgress(store, run.id, stop=stop, clock=lambda: 100.0).stage("embed")
    report("reading", 0, 10)
    report("reading", 1, 10)
    stop.set()
    with pytest.raises(CancelledError, match=f"run {run.id} was stopped"):
        report("reading", 2, 10)


def test_progress__cancelled_run_stops(store: RunStore, run: Run) -> None:
    report = RunProgress(store, run.id).stage("fetch")
    report("listing tasks", 0, 10)
    store.cancel(run.id)
    with pytest.raises(CancelledError, match=f"run {run.id} was cancelled"):
        report("listing tasks", 10, 10)


def test_progress__without_a_store_the_record_stays_as_it_is(store: RunStore, run: Run) -> None:
    watch = Watch()
    progress = RunProgress(None, run.id, watch=watch)
    progress.stage("publish")("writing the queue", 3, 7)
    progress.kept()
    assert watch.seen == [("publish", "writing the queue", 3, 7)]
    assert store.get(run.id) == run

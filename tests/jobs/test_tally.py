import threading

import pytest

from usl_backend.errors import RunError
from usl_backend.jobs.tally import Tally
from usl_backend.runs.counters import Count


def request(tally, **more):
    tally.request(**{"method": "GET", "status": 200, "seconds": 0.2, "attempt": 0, **more})


def test_flush__writes_what_was_counted_once(store):
    tally = Tally(store)
    request(tally)
    request(tally, seconds=0.25, attempt=1)
    request(tally, method="POST", status=0, seconds=99.0)
    assert store.counts() == []
    tally.flush()
    tally.flush()
    assert store.counts() == [
        Count("studio_latencies", 1, {"le": "+Inf"}),
        Count("studio_latencies", 2, {"le": "0.25"}),
        Count("studio_requests", 2, {"method": "GET", "status": "200"}),
        Count("studio_requests", 1, {"method": "POST", "status": "0"}),
        Count("studio_retries", 1, {}),
        Count("studio_seconds", pytest.approx(99.45), {}),
    ]


def test_request__written_now_and_then_without_being_asked(store, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("usl_backend.jobs.tally.time.monotonic", lambda: now[0])
    tally = Tally(store)
    request(tally)
    now[0] = 11.0
    request(tally)
    assert Count("studio_requests", 2, {"method": "GET", "status": "200"}) in store.counts()


def test_request__no_run_fails_for_a_count_that_cannot_be_kept(store, monkeypatch):
    def full(_counts):
        raise RunError("the disk is full")

    tally = Tally(store)
    with monkeypatch.context() as broken:
        broken.setattr(store, "add_counts", full)
        request(tally)
        tally.close()
    tally.close()
    assert Count("studio_requests", 1, {"method": "GET", "status": "200"}) in store.counts()


def test_request__from_many_threads(store):
    tally = Tally(store)
    threads = [threading.Thread(target=lambda: [request(tally) for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.close()
    assert Count("studio_requests", 1600, {"method": "GET", "status": "200"}) in store.counts()

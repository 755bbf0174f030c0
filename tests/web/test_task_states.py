"""Labels of a run read once for all who look at it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from usl_backend.errors import StudioError
from usl_backend.instances import Queue
from usl_backend.report.states import queued
from usl_backend.runs.published import Published
from usl_backend.runs.summary import Summary
from usl_backend.web.task_states import StateReadings

VIEWERS = 6


@pytest.fixture
def run(store):
    run = store.claim(store.create(project=12, project_key="12.100", settings={}).id)
    store.files(run.id).write_published(Published(Queue.of([1, 2])))
    store.finish(run.id, Summary())
    return store.get(run.id)


@pytest.mark.parametrize("fault", [None, StudioError("it is down"), ZeroDivisionError("x")])
def test_get__one_reading_serves_all_who_ask_meanwhile(host, store, run, monkeypatch, fault):
    readings, asked = StateReadings(host, store), []
    all_ask, looked = threading.Event(), []

    def read(run, files, client):
        asked.append(run.id)
        all_ask.wait(20)
        if fault is not None:
            raise fault
        return queued(files.read_published().queue, note="read")

    def look(_):
        looked.append(1)
        try:
            return readings.get(run).note
        except ZeroDivisionError:
            return "unexpected"

    monkeypatch.setattr("usl_backend.report.states.read_states", read)
    with ThreadPoolExecutor(VIEWERS) as pool:
        notes = pool.map(look, range(VIEWERS))
        while len(looked) < VIEWERS:
            time.sleep(0.01)
        time.sleep(0.2)  # the last one to come has to get as far as the question
        all_ask.set()
        found = set(notes)
    assert asked == [run.id]
    (note,) = found
    assert note in ("read", "unexpected", "Labels are not shown: it is down")
    assert (note == "read") == (fault is None)
    readings.get(run) if not isinstance(fault, ZeroDivisionError) else None
    assert len(asked) == 1 + (not isinstance(fault, ZeroDivisionError)), "the next one asks again"

"""The record of a run whose queue was switched; tests/live/test_studio_queue.py switches it."""

from pathlib import Path

from digit_run import Made

from usl_backend.sinks.queue import record_switch
from usl_backend.studio.client import StudioClient
from usl_backend.studio.queue import Switch


def test_record_switch__links_the_address_that_browsers_reach(tmp_path: Path) -> None:
    made = Made(tmp_path, 30, budget=5)
    client = StudioClient("http://label-studio:8080", "a" * 40, browser_url="https://labels.example.org")
    state = made.store.queue_state("12.1700000000")
    assert state is not None
    switch = Switch("usl-suggest-12-1", 7, 30, (1004,), (), state)
    record_switch(made.store, made.run, client, switch)
    published, summary = made.files.read_published(), made.run.summary
    assert (published.model_version, published.carried_over) == ("usl-suggest-12-1", (1004,))
    assert summary is not None
    assert summary.model_version == "usl-suggest-12-1"
    assert summary.tab is not None
    assert (summary.tab.id, summary.tab.url) == (7, "https://labels.example.org/projects/12/data?tab=7")
    made.store.close()

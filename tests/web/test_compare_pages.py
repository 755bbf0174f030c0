"""Two runs of real digits beside each other, as page and JSON."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from digit_run import Made

from usl_backend.instances import Queue
from usl_backend.jobs import Jobs
from usl_backend.report import build
from usl_backend.runs.published import Published
from usl_backend.runs.summary import EncoderNote
from usl_backend.settings import HostSettings
from usl_backend.web import create_app
from usl_backend.web.reports import EXTENSION, Reports


@pytest.fixture
def made(tmp_path: Path):
    run = Made(tmp_path / "data", 80, budget=10)
    yield run
    run.store.close()


def test_compare__page_and_json(made: Made) -> None:
    build(made.run, made.files)
    store = made.store
    second = store.create(project=12, settings={**made.run.settings, "exclude": ["1005"], "budget": "3"})
    store.claim(second.id)
    files = store.files(second.id)
    files.write_pool(made.files.read_pool()[0], ["00" * 32] * 80)
    files.write_selection(made.selection)
    picks = made.queue.instances
    files.write_published(Published(Queue.of([*picks[:2], 1070])))
    store.finish(second.id, replace(made.summary, encoder=EncoderNote("", "", None)))
    store.create(project=13, settings={})
    host = HostSettings(label_studio_api_key="x", model_dir=store.directory)
    app = create_app(host, Jobs(store, host))
    app.extensions[EXTENSION] = Reports(host, store, command=(sys.executable, "-c", "raise SystemExit(1)"))
    client = app.test_client()

    told = client.get(f"/usl/api/compare?a={made.run.id}&b={second.id}")
    assert told.status_code == 200, told.json
    assert (told.json["shared"], told.json["only_b"]) == (list(picks[:2]), [1070])
    assert 0 < told.json["coverage"][0]["b"] < told.json["coverage"][0]["a"] <= 1
    page = client.get(f"/usl/compare?a={made.run.id}&b={second.id}").text
    assert "2 picks are shared, 8 are only in 12-1 and 1 only in 12-2." in page
    assert f'data-task="{picks[5]}"' in page, "as a card, by the report of the run"
    assert "Pictures and texts of its picks are shown then" in page, "the other report is being made"
    assert "1070" in page
    assert ">1 id<" in page, "a list of ids is counted"
    assert f'href="/usl/compare?a={made.run.id}&amp;b={second.id}"' in client.get("/usl/").text
    for query, words in (
        (f"a={made.run.id}", "two runs are compared; name them"),
        (f"a={made.run.id}&b={made.run.id}", "is compared with itself"),
        (f"a={made.run.id}&b=13-1", "over project 12 and run 13-1 over project 13"),
    ):
        refused = client.get(f"/usl/api/compare?{query}")
        assert refused.status_code == 400
        assert words in refused.json["error"]["message"]
    app.extensions[EXTENSION].close()

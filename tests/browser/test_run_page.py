"""Our own pages in a real browser: they follow a run, their buttons act, the content policy blocks nothing of ours."""

import threading

import pytest
from pydantic import SecretStr
from werkzeug.serving import make_server

from usl_backend.jobs import Jobs
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.summary import Summary
from usl_backend.settings import HostSettings
from usl_backend.web import create_app


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def address(store):
    """A server whose runs the test moves on by hand."""
    host = HostSettings(label_studio_api_key=SecretStr("x" * 40), model_dir=store.directory)
    server = make_server("127.0.0.1", 0, create_app(host, Jobs(store, host)), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def complaints(page):
    """What the browser complained of: a blocked script, a failed request, an exception."""
    heard = []
    page.on(
        "console",
        lambda message: heard.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: heard.append(str(error)))
    return heard


def test_run_page__follows_a_run_to_its_end(page, address, store, complaints):
    run = store.create(project=12, settings={"budget": "10"})
    page.goto(f"{address}/usl/")
    page.get_by_text(run.id, exact=True).click()
    page.get_by_text("waiting for other runs").wait_for()
    store.claim(run.id)
    store.progress(run.id, "fetch", 1, 1)
    page.get_by_text("running", exact=True).wait_for()
    store.progress(run.id, "embed", 1500, 3000, "reading pictures")
    page.get_by_text("reading pictures: 1,500 of 3,000").wait_for()
    assert page.locator("li.past").all_inner_texts() == ["fetch"]
    assert page.locator("li.now").inner_text() == "embed"
    assert page.locator("progress").evaluate("bar => bar.position") == 0.5
    store.finish(run.id, Summary(picks=10, warnings=("overlap is 2",)))
    page.get_by_text("10 tasks").wait_for()
    page.get_by_text("overlap is 2").wait_for()
    assert page.locator("button").count() == 0
    assert complaints == []


def test_run_page__cancel_and_resume(page, address, store, complaints):
    run = store.create(project=12, settings={"budget": "10"})
    page.goto(f"{address}/usl/runs/{run.id}")
    page.get_by_text("Cancel", exact=True).click()
    page.get_by_text("cancelled", exact=True).wait_for()
    assert store.get(run.id).state is RunState.CANCELLED
    page.get_by_text("Resume", exact=True).click()
    page.get_by_text("queued", exact=True).wait_for()
    assert store.get(run.id).state is RunState.QUEUED
    assert complaints == []


def test_run_page__another_sites_page_cannot_act(page, address, store):
    run = store.create(project=12, settings={"budget": "10"})
    form = (
        f'<form method="post" action="{address}/usl/runs/{run.id}/cancel"><button>win a prize</button></form>'
    )
    page.route("http://evil.example/", lambda route: route.fulfill(body=form, content_type="text/html"))
    page.goto("http://evil.example/")
    page.get_by_text("win a prize").click()
    page.get_by_text("another site").wait_for()
    assert store.get(run.id).state is RunState.QUEUED


def test_run_page__a_server_that_is_gone_is_said(page, address, store):
    run = store.create(project=12, settings={"budget": "10"})
    page.goto(f"{address}/usl/runs/{run.id}")
    page.route("**/usl/api/**", lambda route: route.abort())
    page.get_by_text("the server does not answer").wait_for()

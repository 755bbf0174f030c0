import re

import pytest
from page_forms import form_of

from usl_backend.runs.summary import BudgetNote, PoolNote, SkippedNote, Summary, Tab, Unread


def _fail(store, message):
    run = store.create(project=12, settings={"seed": 0})
    store.claim(run.id)
    store.fail(run.id, "StudioError", message)
    return run.id


def test_root__leads_to_the_list_of_runs(client):
    answer = client.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/usl/")


def test_list_runs__empty_tells_how_to_start(client):
    page = client.get("/usl/").text
    assert "Start Training" in page


def test_list_runs__links_every_run(client, store):
    _fail(store, "no")
    assert 'href="/usl/runs/12-1"' in client.get("/usl/").text


def test_show_run__active_is_followed_and_can_be_cancelled(client, store):
    store.create(project=12, settings={})
    page = client.get("/usl/runs/12-1").text
    assert 'data-url="/usl/api/runs/12-1"' in page
    assert 'action="/usl/runs/12-1/cancel"' in page
    assert "/usl/static/run.js" in page
    assert "resume" not in page


def test_show_run__failure_shows_the_remedy_and_resume(client, store):
    run_id = _fail(store, "Label Studio does not answer; start it")
    page = client.get(f"/usl/runs/{run_id}").text
    assert "Label Studio does not answer; start it" in page
    assert f'action="/usl/runs/{run_id}/resume"' in page
    assert "run.js" not in page


def test_show_run__result_with_what_could_not_be_read(client, store):
    run = store.create(project=12, settings={})
    store.claim(run.id)
    store.finish(
        run.id,
        Summary(
            picks=10,
            reserve=20,
            budget=BudgetNote("10", 10, False),
            pool=PoolNote(tasks=50, readable=49),
            model_version="usl-12-1",
            tab=Tab(3, "http://ls/projects/12/data?tab=3"),
            warnings=("overlap is 2",),
            skipped=SkippedNote(1, first=(Unread(8, "empty file"),)),
        ),
    )
    page = client.get("/usl/runs/12-1").text
    for shown in ("10 tasks", "reserve of 20", "49 of 50", "usl-12-1", "tab=3", "overlap is 2", "empty file"):
        assert shown in page


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x"])
def test_show_run__only_web_addresses_are_linked(client, store, url):
    run = store.create(project=12, settings={})
    store.claim(run.id)
    store.finish(run.id, Summary(tab=Tab(3, url)))
    assert url not in client.get("/usl/runs/12-1").text


def test_show_run__foreign_text_is_escaped(client, store):
    run_id = _fail(store, "<script>alert(1)</script>")
    page = client.get(f"/usl/runs/{run_id}").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_pages__nothing_inline_and_nothing_from_elsewhere(client, store):
    store.create(project=12, settings={})
    for path in ("/usl/", "/usl/runs/12-1"):
        page = client.get(path).text
        assert not re.search(r"<script(?![^>]*src=)|style=|\son\w+=|<style|https?://", page)


def test_buttons__act_and_come_back(client, store):
    store.create(project=12, settings={"seed": 0})
    form = form_of(client, "/usl/runs/12-1")
    assert client.post("/usl/runs/12-1/cancel", data=form).headers["Location"] == "/usl/runs/12-1"
    assert store.get("12-1").state == "cancelled"
    assert client.post("/usl/runs/12-1/resume", data=form).status_code == 303
    assert store.get("12-1").state == "queued"


def test_error__a_person_gets_a_page_and_a_program_json(client):
    page = client.get("/usl/runs/12-9", headers={"Accept": "text/html"})
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "there is no run" in page.text
    told = client.get("/usl/runs/12-9")
    assert told.json["error"]["type"] == "UnknownRunError"


def test_list_runs__is_reached_from_its_bare_name(client):
    assert client.get("/usl").status_code == 308

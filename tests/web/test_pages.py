import re

import pytest
from page_forms import form_of

from usl_backend.instances import QueueState
from usl_backend.runs.extensions import ExtensionNote, note_extension
from usl_backend.runs.summary import (
    BudgetNote,
    EncoderNote,
    MethodNote,
    PoolNote,
    ProjectNote,
    SkippedNote,
    Summary,
    Tab,
    Unread,
)


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
            project=ProjectNote(12, "12.100"),
            model_version="usl-12-1",
            tab=Tab(3, "http://ls/projects/12/data?tab=3"),
            warnings=("overlap is 2",),
            skipped=SkippedNote(1, first=(Unread(8, "empty file"),)),
        ),
    )
    store.save_queue_state("12.100", QueueState(run.id, "usl-12-1", "u", 3, None, "s", None))
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


def test_show_run__names_of_files_that_are_no_utf8(client, store):
    run = store.create(project=12, settings={"seed": 0})
    store.claim_next(max_running=1)
    store.finish(run.id, Summary(warnings=("na\udcefve.png is odd",)))
    answer = client.get(f"/usl/runs/{run.id}")
    assert (answer.status_code, "na\\udcefve.png is odd" in answer.text) == (200, True)


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


def publish(store, *, dry_run=False, tab=7):
    """A finished run of project 12, whose queue is in force unless it was a dry run."""
    run = store.claim(
        store.create(
            project=12, project_key="12.100", settings={"encoder": None, "seed": 3}, dry_run=dry_run
        ).id
    )
    summary = Summary(
        project=ProjectNote(12, "12.100", "Pets & co", data_key="photo"),
        budget=BudgetNote(None, 40, True),
        encoder=EncoderNote("efficientnet-lite0", "lite0-128px"),
        method=MethodNote("usl", parameters={"neighbors": 20}),
        picks=40,
        model_version=None if dry_run else f"usl-{run.id}",
        tab=None if dry_run else Tab(tab, f"http://ls/projects/12/data?tab={tab}"),
        dry_run=dry_run,
    )
    store.finish(run.id, summary)
    if not dry_run:
        store.save_queue_state(
            "12.100", QueueState(run.id, f"usl-{run.id}", "u", tab, None, "s", None, (9, 8))
        )
    return run.id


def test_show_run__in_force_then_replaced_and_reset(client, store):
    first = publish(store, tab=7)
    page = client.get(f"/usl/runs/{first}").text
    assert "In force:" in page
    assert "2 more tasks queued" in page
    assert "tab=7" in page
    second = publish(store, tab=8)
    third = publish(store, tab=9)
    page = client.get(f"/usl/runs/{first}").text
    assert f'<a href="/usl/runs/{second}">run {second}</a> has replaced this run' in page
    assert f'<a href="/usl/runs/{third}">run {third}</a> is in force now' in page
    assert "tab=7" not in page
    assert "queue.js" not in page
    told = client.get(f"/usl/api/runs/{first}").json
    assert (told["in_force"], told["replaced_by"]) == (False, second)
    assert client.get(f"/usl/api/runs/{third}").json["in_force"] is True
    store.save_queue_state("12.100", None)
    page = client.get(f"/usl/runs/{third}").text
    assert "the project was reset" in page
    assert "tab=9" not in page


def test_list_runs__titles_dry_runs_and_the_one_in_force(client, store):
    publish(store)
    publish(store)
    publish(store, dry_run=True)
    store.create(project=12, project_key="12.100", settings={})
    page = client.get("/usl/").text
    assert page.count("Pets &amp; co</a>") == 4
    assert page.count("dry run") == 1
    rows = page.split("<tr>")[2:]
    assert [("in force" in row, "dry run" in row) for row in rows] == [
        (False, False), (False, True), (True, False), (False, False),
    ]  # fmt: skip


def test_show_run__settings_are_resolved(client, store):
    page = client.get(f"/usl/runs/{publish(store)}").text
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    for shown in ("encoder efficientnet-lite0 by default", "budget 40 by default", "data_key photo by default",
                  "embeddings lite0-128px", "neighbors 20", "seed 3"):  # fmt: skip
        assert shown in text


def test_show_run__says_what_extend_did(client, store):
    run = publish(store)
    note_extension(
        store.files(run), ExtensionNote(0.0, 5, 4, 1, False, "the new tasks are like the old ones")
    )
    text = client.get(f"/usl/runs/{run}").text
    assert "4 of 5 new tasks were queued behind" in text
    assert "The new tasks are like the old ones." in text
    note_extension(
        store.files(run), ExtensionNote(1.0, 0, 0, 0, False, "no tasks came after the run", newest=45)
    )
    assert "No tasks came" not in client.get(f"/usl/runs/{run}").text


def test_when__viewers_zone_and_utc_in_the_tooltip(client, store):
    page = client.get(f"/usl/runs/{publish(store)}").text
    assert re.search(r'<time datetime="[^"]+\+00:00" title="[^"]+ UTC">[^<]+ UTC</time>', page)
    assert "/usl/static/times.js" in page

"""A project's page and its JSON; what Label Studio says is played, that it is read seldom is tried in earnest."""

import re
import threading
import time
from dataclasses import replace

import pytest

from usl_backend.errors import StudioNotFoundError, StudioUnreachableError
from usl_backend.labeling.state import (
    AccuracyNow,
    AnnotatorCount,
    ClassCount,
    LabelingState,
    Pace,
    QueueNow,
    RoleCount,
)
from usl_backend.web import project_watch
from usl_backend.web.project_watch import EXTENSION, ProjectWatch, Seen

STATE = LabelingState(
    project=12,
    title="Pets <b>",
    tasks=300,
    queue=QueueNow("12-1", True, 1000.0, "in force", "whole", "", "http://ls/projects/12/data?tab=7"),
    labeled={
        "pick": RoleCount(8, 20, 1), "control": RoleCount(0, 50), "reserve": RoleCount(0, 20),
        "other": RoleCount(2, 210),
    },
    annotators=(AnnotatorCount(1, "ann@example.com", 7, 1000.0), AnnotatorCount(2, "user 2", 3, 900.0)),
    classes=(ClassCount("cat", 6), ClassCount("<dog>", 4)),
    pace=Pace(10, 120.0, 1830.0),
    accuracy=AccuracyNow(0.9, 0.81, 0.96, 50, 40, 1000.0),
    next="Label 11 more picks.",
)  # fmt: skip


class Played(ProjectWatch):
    """A watch that has seen something."""

    def __init__(self, seen):
        self.seen = seen

    def look(self, project):
        return self.seen


@pytest.fixture
def play(client):
    def play(seen):
        client.application.extensions[EXTENSION] = Played(seen)

    return play


@pytest.fixture
def run(store):
    run = store.claim(store.create(project=12, project_key="12.100", settings={}).id)
    store.fail(run.id, "StudioError", "no")
    return run


def test_show__numbers_people_classes_and_links(client, play, run):
    play(Seen(STATE, None, 2))
    page = client.get("/usl/projects/12").text
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    for shown in (
        "Next: Label 11 more picks.", "Picks 8 20", "1 skipped", "ann@example.com 7", "cat 6",
        "10 tasks in the last hour, 120 per hour;", "the picks and the control set are labeled in 30 minutes",
        "90 % of the suggestions made from 40 labels are right (81 % to 96 %), by 50 control labels",
        "every 2 seconds",
    ):  # fmt: skip
        assert shown in text
    assert "Pets &lt;b&gt;" in page
    assert "<dog>" not in page
    for link in (
        "http://ls/projects/12/data?tab=7",
        "/usl/runs/12-1",
        "/usl/runs/12-1/doubts",
        "/usl/api/runs/12-1/export",
    ):
        assert f'href="{link}"' in page


def test_show__nothing_inline(client, play, run):
    play(Seen(STATE, None, 2))
    page = client.get("/usl/projects/12").text
    assert not re.search(r"<script(?![^>]*src=)|style=|\son\w+=|<style", page)


def test_show__an_unchanged_page_and_json_give_304(client, play, run):
    play(Seen(STATE, None, 2))
    for path in ("/usl/projects/12", "/usl/api/projects/12"):
        tag = client.get(path).headers["ETag"]
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
        play(Seen(replace(STATE, next="Press Suggest."), None, 2))
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 200
        play(Seen(STATE, None, 2))


def test_json__is_the_state_with_how_often_it_is_read(client, play, run):
    play(Seen(STATE, None, 3))
    told = client.get("/usl/api/projects/12").json
    assert told == {**STATE.to_json(), "every": 3, "problem": "", "page": "/usl/projects/12"}


def test_show__label_studio_is_away(client, play, run):
    away = StudioUnreachableError("Label Studio does not answer")
    play(Seen(STATE, away, 2))
    assert "Label Studio does not answer" in client.get("/usl/projects/12").text
    assert client.get("/usl/api/projects/12").json["problem"] == "Label Studio does not answer"
    play(Seen(None, away, 2))
    page = client.get("/usl/projects/12")
    assert (page.status_code, "Label Studio does not answer" in page.text) == (200, True)
    assert "/usl/runs/12-1" in page.text
    assert client.get("/usl/api/projects/12").status_code == 502


def test_show__a_project_that_is_nowhere(client, play):
    play(Seen(None, StudioNotFoundError("project 99 does not exist"), 2))
    assert client.get("/usl/projects/99").status_code == 404
    assert client.get("/usl/api/projects/99").status_code == 404
    play(Seen(None, None, 2))
    assert client.get("/usl/api/projects/99").status_code == 503


@pytest.mark.parametrize("given", ["12", "http://ls:8080/projects/12/data?tab=3"])
def test_find__leads_to_the_page(client, given):
    answer = client.get("/usl/projects", query_string={"project": given})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/usl/projects/12")
    assert client.get("/usl/projects", query_string={"project": "pets"}).status_code == 400


def test_list_runs__leads_to_projects(client, run):
    page = client.get("/usl/").text
    assert 'href="/usl/projects/12"' in page
    assert 'action="/usl/projects"' in page
    assert 'href="/usl/projects/12"' in client.get("/usl/runs/12-1").text


class Slow(ProjectWatch):
    """Reads what the test says, as slowly as it says."""

    reads, answer, seconds = 0, STATE, 0.0

    def _read(self, watched):
        self.reads += 1
        time.sleep(self.seconds)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def watch(host, store):
    return Slow(host, store, report_of=lambda run: None)


def test_watch__many_viewers_are_one_reading(watch):
    watch.seconds = 0.2
    found = []
    viewers = [threading.Thread(target=lambda: found.append(watch.look(12))) for _ in range(20)]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join()
    assert [one.state for one in found] == [STATE] * 20
    assert watch.reads == 1
    watch.look(12)
    assert watch.reads == 1
    watch.forget(12)
    watch.look(12)
    assert watch.reads == 2


def test_watch__where_no_thread_starts_the_next_viewer_is_served(watch, monkeypatch):
    def refused(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", refused)  # a host out of threads cannot be had on demand
        with pytest.raises(RuntimeError):
            watch.look(12)
    assert watch.look(12).state == STATE


def test_watch__large_projects_are_read_less_often(watch, monkeypatch):
    monkeypatch.setattr(project_watch, "FRESH", 0.01)
    watch.seconds = 0.6
    assert watch.look(12).every == 2  # twice the reading, rounded up
    time.sleep(0.1)
    assert watch.look(12).state == STATE
    assert watch.reads == 1
    watch.seconds = 0.0
    watch.forget(12)
    assert watch.look(12).every == 1, "the quickest of the last readings counts"


def test_watch__what_was_read_stays_when_label_studio_fails(watch):
    watch.look(12)
    watch.answer = StudioUnreachableError("away")
    watch.forget(12)
    seen = watch.look(12)
    assert (seen.state, seen.problem) == (STATE, "away")
    watch.answer = ValueError("a mistake of ours")
    watch.forget(12)
    assert watch.look(12).problem.startswith("unexpected error")
    watch.answer = STATE
    watch.forget(12)
    assert watch.look(12) == Seen(STATE, None, 2)

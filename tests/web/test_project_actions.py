"""Buttons of a project's page: each starts what it says, behind the guards of all forms."""

from dataclasses import replace

import numpy as np
import pytest
from page_forms import form_of

from usl_backend.errors import RunError
from usl_backend.evaluation.budgets import BudgetCurve
from usl_backend.instances import Pool, Queue, QueueState
from usl_backend.labeling.state import LabelingState, QueueNow, RoleCount
from usl_backend.runs import RunState
from usl_backend.runs.budget_curves import save_budgets
from usl_backend.runs.lock import Lock
from usl_backend.runs.published import Published
from usl_backend.runs.suggest_job import SuggestJob, lock_of, write_job
from usl_backend.runs.summary import ProjectNote, Summary
from usl_backend.web.project_watch import EXTENSION, ProjectWatch, Seen

PAGE = "/usl/projects/12"
NOTE = ProjectNote(12, "12.100", "Pets")


class Played(ProjectWatch):
    """A watch that has seen the queue of run 12-1, or what the test says."""

    def __init__(self):
        roles = {role: RoleCount() for role in ("pick", "control", "reserve", "other")}
        self.state = LabelingState(12, "Pets", 30, QueueNow("12-1", True, 1.0, "in force"), roles)
        self.forgotten = []

    def look(self, project):
        return Seen(self.state, None, 2)

    def forget(self, project):
        self.forgotten.append(project)


@pytest.fixture
def watch(client):
    client.application.extensions[EXTENSION] = watch = Played()
    return watch


def finished(store, *, dry_run=False, settings=None):
    run = store.claim(
        store.create(project=12, project_key="12.100", settings=settings or {"seed": 7}, dry_run=dry_run).id
    )
    store.files(run.id).write_published(Published(Queue.of([1, 2]), None if dry_run else "usl-12-1"))
    store.finish(
        run.id, Summary(NOTE, picks=2, model_version=None if dry_run else "usl-12-1", dry_run=dry_run)
    )
    return store.get(run.id)


@pytest.fixture
def run(store):
    """The run in force."""
    run = finished(store)
    store.save_queue_state("12.100", QueueState(run.id, "usl-12-1", "u", 7, None, "s", None))
    return run


@pytest.fixture
def press(client, watch):
    """Presses a button: `press("extend", confirm="12")`; returns the response."""

    token = form_of(client, PAGE)["form_token"]

    def press(action, **fields):
        return client.post(f"{PAGE}/{action}", data={"form_token": token, **fields})

    return press


@pytest.fixture
def tended(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "usl_backend.web.project_actions.start_tending", lambda *given: asked.append((given[2].id, given[3]))
    )
    return asked


def test_start__with_the_settings_of_the_form(press, store, watch):
    told = press("runs", budget=" 40 ", encoder="", seed="3", keep_labels="on", exclude_outliers="on")
    assert (told.status_code, told.headers["Location"]) == (303, PAGE)
    made = store.latest(12)
    assert (made.state, made.dry_run) == (RunState.QUEUED, False)
    told = ("budget", "encoder", "seed", "keep_labels", "next", "exclude_outliers")
    assert {name: made.settings[name] for name in told} == {
        "budget": "40", "encoder": None, "seed": 3, "keep_labels": True, "next": False, "exclude_outliers": True,
    }  # fmt: skip
    assert watch.forgotten == [12]
    assert press("runs").status_code == 409


def test_start__dry_run_and_bad_budget(press, store):
    assert press("runs", budget="many").status_code == 400
    assert store.list() == []
    press("runs", dry_run="on")
    assert store.latest(12).dry_run


def test_rerun__has_exactly_the_settings_of_the_run(press, store, run):
    assert press("rerun", run=run.id).status_code == 303
    again = store.latest(12)
    assert (again.id, again.settings, again.project_key) == ("12-2", run.settings, "12.100")


def test_publish__a_dry_run_is_queued_again_and_others_are_written_again(press, store, run, tended):
    dry = finished(store, dry_run=True)
    assert press("publish", run=run.id).status_code == 303
    assert tended == [(run.id, "publish")]
    assert press("publish", run=dry.id).status_code == 303
    taken = store.get(dry.id)
    assert (taken.state, taken.dry_run, taken.place) == (RunState.QUEUED, False, "server")
    with pytest.raises(RunError, match="run 12-2 is no dry run and queued; only a finished dry run"):
        store.take_up(dry.id)


@pytest.mark.parametrize("action", ["extend", "publish", "rerun"])
def test_actions__runs_of_other_projects_are_refused(press, store, action, tended):
    other = store.create(project=13, settings={"seed": 1})
    if action == "extend":
        assert press(action).status_code in (404, 409)
    else:
        assert press(action, run=other.id).status_code == 404
    assert tended == []
    assert store.list(project=12) == []


@pytest.mark.parametrize("action", ["extend", "suggestions", "reset"])
def test_actions__a_number_that_no_project_has_is_refused(client, watch, action):
    fields = {**form_of(client, PAGE), "confirm": str(2**70)}
    told = client.post(f"/usl/projects/{2**70}/{action}", data=fields)
    assert told.status_code == 400
    assert "give Label Studio's project id" in told.json["error"]["message"]


def test_extend_and_reset__reset_only_when_it_is_confirmed(press, run, tended):
    assert press("extend").status_code == 303
    for typed in ("", "13", "yes"):
        told = press("reset", confirm=typed)
        assert told.status_code == 400
        assert "type 12" in told.text
    assert tended == [(run.id, "extend")]
    assert press("reset", confirm="12").status_code == 303
    assert tended[-1] == (run.id, "reset")


def test_suggest__asks_for_the_same_as_the_run_s_page(press, run, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "usl_backend.web.project_actions.start_suggesting", lambda *given: asked.append(given[2:])
    )
    assert press("suggestions", review="on", accept="0.9").status_code == 303
    ((of, wanted),) = asked
    assert (of.id, wanted.review, wanted.accept) == (run.id, True, 0.9)
    assert press("suggestions", accept="most").status_code == 400


@pytest.mark.parametrize("action", ["runs", "rerun", "publish", "budgets", "extend", "suggestions", "reset"])
def test_actions__need_the_form_s_token_and_no_other_site(client, watch, run, store, tended, action):
    fields = {"run": run.id, "confirm": "12"}
    assert client.post(f"{PAGE}/{action}", data=fields).status_code == 403
    form = {**form_of(client, PAGE), **fields}
    foreign = {"Origin": "http://evil.example"}
    assert client.post(f"{PAGE}/{action}", data=form, headers=foreign).status_code == 403
    assert tended == []
    assert [one.id for one in store.list()] == [run.id]


def test_show__buttons_give_way_to_the_work(client, store, watch, run):
    page = client.get(PAGE).text
    for button in ("Start", "Dry run", "Rerun", "Extend", "Suggest", "Reset"):
        assert f">{button}</button>" in page
    files = store.files(run.id)
    with Lock(lock_of(files, "tend")):
        job = SuggestJob(run.id, {"deed": "extend"}, stage="embed", step="reading pictures", done=3, total=9)
        write_job(files, job, "tend")
        page = client.get(PAGE).text
        assert "Extend is at work: reading pictures, 3 of 9" in page
        assert "<button" not in page
    assert "Extend failed: its process ended without a result; extend again" in client.get(PAGE).text
    write_job(
        files,
        SuggestJob(run.id, {"deed": "reset"}, "done", result={"said": "As before.", "notes": ["<b>"]}),
        "tend",
    )
    page = client.get(PAGE).text
    assert "As before." in page
    assert "&lt;b&gt;" in page
    store.create(project=12, project_key="12.100", settings={})
    page = client.get(PAGE).text
    assert "is queued: waiting for other runs" in page
    assert "<button" not in page


def test_show__a_project_without_a_run_can_only_start(client, watch):
    watch.state = replace(watch.state, queue=QueueNow())
    page = client.get(PAGE).text
    assert ">Start</button>" in page
    for button in ("Rerun", "Extend", "Suggest", "Reset"):
        assert f">{button}</button>" not in page


def test_show__what_is_damaged_can_be_published_again(client, watch, run):
    damaged = QueueNow("12-1", False, 1.0, "sampling", "sampling was changed", "usl-backend publish 12-1")
    watch.state = replace(watch.state, queue=damaged)
    page = client.get(PAGE).text
    assert ">Publish again</button>" in page
    assert ">Extend</button>" not in page
    assert ">Reset</button>" in page


def test_measure__is_offered_until_a_run_has_measured(client, store, watch, run, press, tended):
    assert ">Measure budgets</button>" not in client.get(PAGE).text, "the run's files were removed"
    files = store.files(run.id)
    files.write_pool(Pool(np.arange(2), np.eye(2, dtype=np.float32)), ["00" * 32] * 2)
    assert ">Measure budgets</button>" in client.get(PAGE).text
    assert press("budgets", run=run.id).status_code == 303
    assert tended == [(run.id, "measure")]
    save_budgets(files, BudgetCurve(20, (1, 20, 200), (0.1, 0.7, 0.99), (0.05, 0.5, 0.9)))
    page = client.get(PAGE).text
    assert ">Measure budgets</button>" not in page
    assert (
        '<th scope="row" class="number">20</th><td class="number">70 %</td><td class="number">50 %</td>'
        in page
    )
    assert "The default budget of 20 reaches 70 % of the pool, 200 picks reach 99 %" in page
    assert 'id="slider" min="0" max="2"' in page

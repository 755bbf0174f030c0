"""State of a project whose run is stored and whose Label Studio is played."""

from dataclasses import replace

import pytest

from usl_backend.instances import Place, Queue, QueueState
from usl_backend.labeling.reading import deleted, labeling_state, owner_of
from usl_backend.labeling.state import RoleCount
from usl_backend.runs import RunStore
from usl_backend.runs.published import Published
from usl_backend.runs.suggest_job import SuggestJob, write_job
from usl_backend.runs.summary import PoolNote, Summary, Tab
from usl_backend.sinks.standing import Standing
from usl_backend.studio.model_versions import holds_suggestions
from usl_backend.studio.records import LabeledTask, Project, Task
from usl_backend.suggesting.accuracy import RunAccuracy, save_accuracy
from usl_backend.suggestions import Share

CONFIG = """<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="cat"/>
<Choice value="dog"/></Choices></View>"""
PROJECT = Project(12, "12.100", "Pets", 100.0, CONFIG, "usl-12-1", "", 1, False, True, 30)
IN_FORCE = Standing("in force", "12-1", "whole")


def labeled(number, name="cat"):
    region = {"id": "a", "from_name": "c", "value": {"choices": [name]}}
    return LabeledTask(
        number,
        {},
        ({"id": number, "completed_by": 1, "result": [region], "created_at": "2026-01-01T00:00:00Z"},),
    )


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def run(store):
    """A run over 30 tasks with three picks, a control task and a spare, whose queue is in force."""
    run = store.claim(store.create(project=12, project_key="12.100", settings={}).id)
    store.files(run.id).write_published(Published(Queue.of([1, 2, 3], control=[4], reserve=[5])))
    store.finish(run.id, Summary(pool=PoolNote(tasks=30), tab=Tab(7, "http://ls/projects/12/data?tab=7")))
    store.save_queue_state("12.100", QueueState(run.id, "usl-12-1", "u", 7, None, "s", None))
    return store.get(run.id)


def state_of(store, tasks, *, project=PROJECT, standing=IN_FORCE, **more):
    owner = owner_of(store, project)
    return labeling_state(
        project, {one.id: one for one in tasks}, store=store, owner=owner, standing=standing, names={1: "Ann"}, **more
    )  # fmt: skip


def test_labeling_state__json_has_the_promised_form(store, run):
    found = state_of(store, [labeled(1), labeled(4, "dog"), labeled(29)]).to_json()
    assert (found["project"], found["title"]) == (12, "Pets")
    assert {name: found["queue"][name] for name in ("run", "in_force", "published")} == {
        "run": "12-1", "in_force": True, "published": run.finished_at,
    }  # fmt: skip
    assert {role: (one["labeled"], one["total"]) for role, one in found["labeled"].items()} == {
        "pick": (1, 3), "control": (1, 1), "reserve": (0, 1), "other": (1, 25),
    }  # fmt: skip
    assert [(one["name"], one["labeled"]) for one in found["annotators"]] == [("Ann", 3)]
    assert found["classes"] == [{"name": "cat", "labeled": 2}, {"name": "dog", "labeled": 1}]
    assert found["next"] == "Label 2 more picks."
    assert found["coverage"] is None


def test_labeling_state__a_project_without_a_run(store):
    found = state_of(store, [labeled(3)], standing=Standing("none", "", "no queue"))
    assert found.labeled["other"] == RoleCount(1, 30)
    assert found.next.startswith("Start a run")


def test_labeling_state__new_tasks_accuracy_and_suggestions(store, run):
    files = store.files(run.id)
    save_accuracy(files, RunAccuracy("12-1", 40, 60, 50, Share(0.9, 0.8, 0.95, 50), None, None, 7.0))
    write_job(
        files, SuggestJob(run.id, state="done", result={"labels": {"cat": 2, "dog": 2}}, finished_at=9.0)
    )
    every = [labeled(number, "dog" if number % 2 else "cat") for number in range(1, 6)]
    found = state_of(store, every, waiting=4)
    assert (found.waiting, found.next) == (4, "4 new tasks wait: press Extend to queue them.")
    assert (found.accuracy.right, found.accuracy.low, found.accuracy.controls) == (0.9, 0.8, 50)
    found = state_of(store, every)
    assert (found.suggested, found.next) == (9.0, "Press Suggest again, there are more labels now.")
    result = {"labels": {"cat": 2, "dog": 2}, "control_labels": 1}
    write_job(files, SuggestJob(run.id, state="done", result=result, finished_at=9.0))
    assert state_of(store, every).next.startswith("Export the labels")
    write_job(files, SuggestJob(run.id, {"dry_run": True}, "done", result={"labels": {}}, finished_at=9.0))
    assert state_of(store, every).suggested is None


def test_labeling_state__tab_that_is_gone_is_not_linked(store, run):
    assert state_of(store, []).queue.tab == "http://ls/projects/12/data?tab=7"
    assert state_of(store, [], standing=Standing("no tab", "12-1", "gone", "x")).queue.tab == ""


def test_labeling_state__tasks_made_for_picks(store, run):
    places = (Place(0, 0, "pick", task=501), Place(1, 1, "pick", task=502))
    store.files(run.id).write_published(Published(Queue(places)))
    assert state_of(store, [labeled(502)]).labeled["pick"] == RoleCount(1, 2)


def test_labeling_state__an_active_run_is_named(store, run):
    store.create(project=12, project_key="12.100", settings={})
    assert state_of(store, []).active == "12-2"


def test_owner_of__forgotten_run(store, run):
    store.forget(run.id)
    assert owner_of(store, PROJECT) is None


class Asked:
    """A Label Studio that has tasks 1 to 3 and remembers what it was asked for."""

    def __init__(self, predictions):
        self.ids, self.predictions = [], predictions

    @property
    def http(self):
        return self

    def json(self, method, path):
        assert (method, path) == ("GET", "/api/projects/12/model-versions/")
        return self.predictions

    def tasks_of(self, project, ids):
        self.ids.append(sorted(ids))
        return iter([Task(one, {}, 0, 0) for one in ids if one <= 3])


def test_deleted__is_looked_up_only_where_predictions_are_missing(store, run):
    asked = Asked({"usl-12-1": 5})
    assert deleted(asked, PROJECT, owner_of(store, PROJECT), {1}) == frozenset()
    assert asked.ids == []
    asked = Asked({"usl-12-1": 3})
    for project in (PROJECT, replace(PROJECT, task_number=28)):
        assert deleted(asked, project, owner_of(store, project), {1}) == {4, 5}, "others may be imported"
    assert asked.ids == [[2, 3, 4, 5]] * 2


def test_deleted__is_looked_up_where_suggestions_are_counted_too(store, run):
    state, version = store.queue_state("12.100"), "usl-suggest-12-1"
    assert holds_suggestions(version)
    store.save_queue_state("12.100", replace(state, model_version=version))
    assert deleted(Asked({version: 5}), PROJECT, owner_of(store, PROJECT), {1}) == {4, 5}

"""The queue on a real Label Studio: what annotators are served, and that everything can be put back."""

import dataclasses
import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from live_studio import LiveProject, LiveStudio, choice

from usl_backend.errors import InputError, StudioError
from usl_backend.instances import QueueState
from usl_backend.studio import bulk, leftovers, queue
from usl_backend.studio.client import StudioClient
from usl_backend.studio.model_versions import delete_version, model_version
from usl_backend.studio.queue import Switch, publish
from usl_backend.studio.reset import reset
from usl_backend.studio.verification import release, verify_first

MakeProject = Callable[..., LiveProject]
_runs = itertools.count(1)


def run_id(project: LiveProject) -> str:
    return f"{project.id}-{next(_runs)}"


def chosen(project: LiveProject, count: int, *, seed: int = 0, among: list[int] | None = None) -> list[int]:
    """Some tasks in an order that neither ids nor chance would give."""
    return random.Random(seed).sample(list(among or project.tasks), count)


def put(
    project: LiveProject, picks: list[int], reserve: list[int] = (), state: QueueState | None = None
) -> Switch:
    return publish(
        project.client, project.now, run_id=run_id(project), picks=picks, reserve=reserve, state=state
    )


def snapshot(project: LiveProject) -> dict[str, Any]:
    """Everything of a project that publishing may touch."""
    now = project.now
    return {
        "sampling": now.sampling,
        "model_version": now.model_version,
        "views": [(view["id"], view["data"]) for view in project.views()],
        "versions": {v: n for v, n in project.model_versions().items() if n},
    }


@pytest.mark.parametrize("token", ["legacy", "personal"])
def test_publish__two_annotators_get_the_ranks_in_order(
    label_studio: LiveStudio,
    personal_token: str,
    make_project: MakeProject,
    client: StudioClient,
    second_annotator: StudioClient,
    token: str,
) -> None:
    project = make_project(15)
    order = chosen(project, 10)
    key = personal_token if token == "personal" else label_studio.token
    with StudioClient(label_studio.url, key) as ours:
        published = publish(
            ours, project.now, run_id=run_id(project), picks=order[:8], reserve=order[8:], state=None
        )
    assert published.created == 10
    assert published.warnings == ()
    assert project.serve([client, second_annotator], 10) == order
    # Afterwards the rest is served, so that work goes on.
    rest = project.serve([client, second_annotator], 20)
    assert sorted(rest) == sorted(set(project.tasks) - set(order))


def test_publish__holds_after_partial_labeling_new_tasks_and_a_rerun(
    make_project: MakeProject, client: StudioClient, second_annotator: StudioClient
) -> None:
    project = make_project(20)
    both = [client, second_annotator]
    client.annotate(project.tasks[0], [choice("dog")])
    client.annotate(project.tasks[1], [], was_cancelled=True)
    order = chosen(project, 6, among=list(project.tasks[2:]))
    first = put(project, order)
    assert project.serve(both, 3) == order[:3]
    assert client.newest_task(project.id) == max(project.tasks)
    new = project.add_tasks([{"image": f"http://example.com/new{i}.png"} for i in range(5)])
    assert client.newest_task(project.id) == max(new)
    assert project.serve(both, 1) == order[3:4]
    unlabeled = [task.id for task in client.tasks(project.id)]
    assert set(new) <= set(unlabeled)
    again = chosen(project, 8, seed=1, among=unlabeled)
    second = put(project, again, state=first.state)
    assert project.serve(both, 8) == again
    # The earlier run's tab is gone, its predictions stay for whoever has a task open; the user's settings are known.
    assert project.model_versions() == {second.model_version: 8, first.model_version: 6}
    assert [view["data"]["title"] for view in project.views()] == [
        "Default",
        f"USL picks {second.state.run_id}",
    ]
    assert second.state.original_sampling == "Sequential sampling"


def test_publish__a_task_that_is_open_at_the_switch_can_be_submitted(
    make_project: MakeProject, client: StudioClient, second_annotator: StudioClient
) -> None:
    project = make_project(10)

    def submit(task: dict[str, Any], label: str) -> int:
        """As Label Studio's page does: an annotation names the prediction that it was begun from."""
        (begun_from,) = task["predictions"]
        body = {"result": [choice(label)], "parent_prediction": begun_from["id"]}
        return second_annotator.http.json("POST", f"/api/tasks/{task['id']}/annotations/", body=body)["id"]

    first = put(project, list(project.tasks[:3]))
    opened = second_annotator.next_task(project.id)
    assert opened is not None
    assert opened["id"] == project.tasks[0]
    second = put(project, list(project.tasks[2:6]), state=first.state)
    # What is shown and served, and its score in the Data Manager, is of the version in force alone.
    assert submit(opened, "owl") in {one["id"] for one in client.annotations(opened["id"])}
    both = project.tasks[2]
    page = client.http.json("GET", "/api/tasks", params={"view": second.view_id, "page_size": 100})
    assert [task["id"] for task in page["tasks"]] == list(project.tasks[2:6])
    shown = {task["id"]: task["predictions_score"] for task in page["tasks"]}
    assert shown == {task: rank / 4 for rank, task in enumerate(project.tasks[2:6])}
    opened = second_annotator.next_task(project.id)
    assert opened is not None
    assert opened["id"] == both
    assert [one["model_version"] for one in opened["predictions"]] == [second.model_version]
    # With the next queue the version before last goes.
    third = put(project, list(project.tasks[5:8]), state=second.state)
    assert project.model_versions() == {third.model_version: 3, second.model_version: 4}
    assert submit(opened, "cat") in {one["id"] for one in client.annotations(both)}
    # Reset takes back everything: what is open then cannot be submitted.
    opened = second_annotator.next_task(project.id)
    assert opened is not None
    reset(client, project.now, third.state)
    assert project.model_versions() == {}
    with pytest.raises(StudioError, match="Invalid pk"):
        submit(opened, "cat")


def test_publish__skipped_pick_does_not_stop_the_queue(
    make_project: MakeProject, client: StudioClient, second_annotator: StudioClient
) -> None:
    project = make_project(12)
    order = chosen(project, 4)
    put(project, order)
    task = second_annotator.next_task(project.id)
    assert task is not None
    assert task["id"] == order[0]
    second_annotator.annotate(order[0], [], was_cancelled=True)
    assert project.serve([second_annotator], 3) == order[1:]


def test_publish__overlap_two_serves_all_chosen_before_any_other(
    make_project: MakeProject, client: StudioClient, second_annotator: StudioClient
) -> None:
    project = make_project(14, maximum_annotations=2)
    order = chosen(project, 5)
    published = put(project, order)
    assert any("2 annotations per task" in warning for warning in published.warnings)
    served = project.serve([client, second_annotator], 14)
    started = list(dict.fromkeys(served))
    assert sorted(started[:5]) == sorted(order)
    assert all(served.count(task) == 2 for task in order)


def test_publish__started_tasks_of_an_overlap_project_are_the_known_exception(
    make_project: MakeProject, client: StudioClient, second_annotator: StudioClient
) -> None:
    project = make_project(10, maximum_annotations=2)
    started = project.tasks[7]
    client.annotate(started, [choice("cat")])
    order = chosen(project, 3, among=list(project.tasks[:6]))
    put(project, order)
    # Measured: Label Studio gives the other annotator the started task before anything chosen.
    assert project.serve([second_annotator], 1) == [started]
    found = verify_first(client, project.now, order)
    assert (found.outcome, found.task) == ("first", order[0])


def test_publish__tab_shows_exactly_the_picks_in_order(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(15)
    project.predict(project.tasks[:4], version="other")
    order = chosen(project, 8)
    published = put(project, order[:5], order[5:])
    answer = client.http.json("GET", "/api/tasks", params={"view": published.view_id, "page_size": 100})
    assert [task["id"] for task in answer["tasks"]] == order[:5]
    data = next(view["data"] for view in project.views() if view["id"] == published.view_id)
    assert "tasks:predictions_score" not in data["hiddenColumns"]["explore"]


def test_publish__pre_annotations_of_another_model_stay_in_sight(
    make_project: MakeProject, client: StudioClient, second_annotator: StudioClient
) -> None:
    project = make_project(12)
    predicted = [*project.tasks[:3], *project.tasks[6:9]]
    project.predict(predicted, version="other", label="owl", score=0.01)
    client.update_project(project.id, model_version="other")
    order = chosen(project, 5)
    published = put(project, order)
    assert published.carried_over == tuple(sorted(predicted))
    assert any("still see them" in warning for warning in published.warnings)
    shown: dict[int, list[Any]] = {}
    served = []
    for _ in project.tasks:
        task = second_annotator.next_task(project.id)
        assert task is not None
        shown[task["id"]] = [p["result"] for p in task["predictions"] if p["result"]]
        served.append(task["id"])
        second_annotator.annotate(task["id"], [choice("cat")])
    # A low score of the other model does not push its tasks forward.
    assert served[:5] == order
    for task in project.tasks:
        expected = [[choice("owl")["value"]]] if task in predicted else []
        assert [[region["value"] for region in result] for result in shown[task]] == expected


def test_publish__pre_annotations_survive_a_rerun_and_their_source(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(10)
    project.predict(project.tasks[:4], version="other", label="owl")
    client.update_project(project.id, model_version="other")
    first = put(project, chosen(project, 3))
    delete_version(client, project.id, "other")
    second = put(project, chosen(project, 3, seed=1), state=first.state)
    assert second.carried_over == project.tasks[:4]
    third = publish(
        client,
        project.now,
        run_id=second.state.run_id,
        picks=chosen(project, 3, seed=1),
        state=second.state,
    )
    assert third.carried_over == project.tasks[:4]
    assert project.model_versions() == {
        third.model_version: third.created,
        first.model_version: first.created,
    }
    report = reset(client, project.now, third.state)
    assert any("'other'" in line for line in report.left)


def test_publish__pre_annotations_without_a_version_in_force_are_carried_too(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(6)
    project.predict(project.tasks[:3], version="old", label="cat")
    project.predict(project.tasks[1:4], version="new", label="owl")
    published = put(project, [project.tasks[1]])
    assert published.carried_over == project.tasks[:4]
    task = client.http.json("GET", f"/api/tasks/{project.tasks[1]}/")
    ours = [p for p in task["predictions"] if p["model_version"] == published.model_version]
    assert [p["result"][0]["value"]["choices"] for p in ours] == [["owl"]]


def test_publish__pre_annotations_that_no_longer_fit_are_named(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(6)
    project.predict(project.tasks[:2], version="other", label="owl")
    config = project.now.label_config.replace('<Choice value="owl"/>', '<Choice value="fox"/>')
    client.update_project(project.id, label_config=config, model_version="other")
    published = put(project, [project.tasks[1], project.tasks[4]])
    assert published.created == 2
    assert any("do not fit the label config" in warning for warning in published.warnings)
    assert project.serve([client], 2) == [project.tasks[1], project.tasks[4]]


def test_publish__twice_for_the_same_run_writes_nothing_twice(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(10)
    order, run = chosen(project, 4), run_id(project)
    first = publish(client, project.now, run_id=run, picks=order)
    before = snapshot(project)
    second = publish(client, project.now, run_id=run, picks=order, state=first.state)
    assert snapshot(project) == before
    assert second.state == first.state
    # And if what was stored is lost.
    third = publish(client, project.now, run_id=run, picks=order, state=None)
    assert snapshot(project) == before
    assert any("not in this data directory" in warning for warning in third.warnings)


def test_publish__two_installations_on_one_project_do_not_mix(
    make_project: MakeProject, client: StudioClient
) -> None:
    """Each counts its runs for itself, so both come to a run of the same number."""
    project = make_project(12)
    before = snapshot(project)
    run, one, other = run_id(project), chosen(project, 5), chosen(project, 5, seed=1)
    first = publish(client, project.now, run_id=run, installation="aaaaaa", picks=one)
    second = publish(client, project.now, run_id=run, installation="bbbbbb", picks=other)
    assert first.model_version != second.model_version
    # the later one is in force, whole; the earlier one stays for tasks that are open, and is not served
    stored = {v: n for v, n in project.model_versions().items() if n}
    assert stored == {second.model_version: 5, first.model_version: 5}
    assert project.serve([client], 2) == other[:2]
    reset(client, project.now, second.state)
    assert snapshot(project)["versions"] == before["versions"]
    assert project.now.sampling == before["sampling"]
    assert not [view for view in project.views() if "USL picks" in view["data"]["title"]]


@pytest.mark.parametrize(
    "where", ["half of the predictions", "before the switch", "before the tab", "cleanup"]
)
def test_publish__goes_on_after_an_interruption(
    make_project: MakeProject, client: StudioClient, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    project = make_project(10)
    earlier = put(project, [project.tasks[0]]).state
    saved: list[QueueState] = [earlier]
    order, run = chosen(project, 4), run_id(project)
    version = model_version(run)

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if where == "half of the predictions":
            rows = [
                {"task": t, "result": [], "score": i / 4, "model_version": version}
                for i, t in enumerate(order[:2])
            ]
            client.http.json("POST", f"/api/projects/{project.id}/import/predictions", body=rows)
        else:
            place, name = {
                "before the switch": (StudioClient, "update_project"),
                "before the tab": (queue, "_ensure_tab"),
                "cleanup": (leftovers, "remove_leftovers"),
            }[where]
            patch.setattr(place, name, die)
            with pytest.raises(Killed):
                publish(client, project.now, run_id=run, picks=order, state=earlier, save=saved.append)
    in_force = project.now.model_version
    published = publish(client, project.now, run_id=run, picks=order, state=saved[-1], save=saved.append)
    assert project.model_versions() == {published.model_version: 4, earlier.model_version: 1}
    # after the switch the queue in force stays
    assert (published.model_version == in_force) == (where in ("before the tab", "cleanup"))
    assert [view["data"]["title"] for view in project.views()] == ["Default", f"USL picks {run}"]
    assert published.state.original_sampling == "Sequential sampling"
    assert project.serve([client], 4) == order
    reset(client, project.now, published.state)
    assert (project.now.sampling, project.now.model_version) == ("Sequential sampling", "")


def test_publish__other_scores_under_the_same_version_are_replaced(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(8)
    run = run_id(project)
    rows = [
        {"task": t, "result": [], "score": 0.5, "model_version": model_version(run)}
        for t in (*project.tasks[:3], project.tasks[0])
    ]
    client.http.json("POST", f"/api/projects/{project.id}/import/predictions", body=rows)
    order = chosen(project, 4)
    published = publish(client, project.now, run_id=run, picks=order)
    assert project.model_versions() == {published.model_version: 4}
    assert project.serve([client], 4) == order


def test_publish__tasks_deleted_meanwhile_are_left_out(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(8)
    order = chosen(project, 5)
    before = project.now
    for task in (order[0], order[3]):
        client.http.request("DELETE", f"/api/tasks/{task}/").close()
    published = publish(client, before, run_id=run_id(project), picks=order)
    assert published.created == 3
    assert any("were deleted" in warning for warning in published.warnings)
    assert project.serve([client], 3) == [order[1], order[2], order[4]]


def test_publish__nothing_left_behind_when_all_picks_are_gone(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(4)
    before = snapshot(project)
    client.http.request("DELETE", f"/api/tasks/{project.tasks[0]}/").close()
    with pytest.raises(InputError, match="deleted during the run"):
        put(project, [project.tasks[0]])
    assert snapshot(project) == before


def test_publish__failed_write_leaves_the_project_as_it_was(
    make_project: MakeProject, client: StudioClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(6)
    before = snapshot(project)
    monkeypatch.setattr(bulk, "_BATCH", 2)
    real, calls = bulk.import_predictions, itertools.count()

    def refuse_the_second(*arguments: Any) -> int:
        if next(calls):
            raise StudioError("Label Studio answers 500")
        return real(*arguments)

    monkeypatch.setattr(bulk, "import_predictions", refuse_the_second)
    with pytest.raises(StudioError, match="500"):
        put(project, list(project.tasks[:4]))
    assert snapshot(project) == before


def test_publish__another_project_under_the_same_number_is_refused(make_project: MakeProject) -> None:
    project = make_project(3)
    stale = dataclasses.replace(project.now, key=f"{project.id}.1")
    with pytest.raises(InputError, match="deleted and another project"):
        publish(project.client, stale, run_id=run_id(project), picks=[project.tasks[0]])


def test_reset__restores_everything(make_project: MakeProject, client: StudioClient) -> None:
    project = make_project(10)
    project.predict(project.tasks[:4], version="other")
    tab = {"title": "Mine", "type": "list", "target": "tasks", "ordering": ["tasks:id"]}
    client.http.json("POST", "/api/dm/views/", body={"project": project.id, "data": tab})
    client.update_project(project.id, sampling="Uniform sampling", model_version="other")
    before = snapshot(project)
    first = put(project, chosen(project, 4))
    second = put(project, chosen(project, 4, seed=1), state=first.state)
    assert snapshot(project) != before
    report = reset(client, project.now, second.state)
    assert snapshot(project) == before
    assert report.left == ()
    assert {line.split(":")[0] for line in report.restored} == {
        "model version",
        "sampling",
        "predictions",
        "tab",
    }
    # Once more changes nothing.
    assert reset(client, project.now, second.state).restored == ()
    assert snapshot(project) == before


def test_reset__of_a_bare_project_leaves_no_tab_behind(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(5)
    before = snapshot(project)
    published = put(project, chosen(project, 2))
    reset(client, project.now, published.state)
    assert snapshot(project) == before


def test_reset__leaves_and_names_what_the_user_changed(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(8)
    project.predict(project.tasks[:2], version="other")
    published = put(project, chosen(project, 3))
    client.update_project(project.id, sampling="Uniform sampling", model_version="other")
    view = next(view for view in project.views() if view["id"] == published.view_id)
    data = view["data"] | {"title": "My favourites"}
    client.http.json("PATCH", f"/api/dm/views/{view['id']}/", body={"project": project.id, "data": data})
    report = reset(client, project.now, published.state)
    after = snapshot(project)
    assert (after["sampling"], after["model_version"]) == ("Uniform sampling", "other")
    assert after["versions"] == {"other": 2}
    assert "My favourites" in [data["title"] for _, data in after["views"]]
    assert [line.split(":")[0] for line in report.left] == ["model version", "sampling", "tab"]
    assert all(word in " ".join(report.left) for word in ("'other'", "Uniform sampling", "My favourites"))


def test_reset__without_a_stored_state_removes_ours_and_says_what_it_cannot_know(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(5)
    put(project, chosen(project, 2))
    report = reset(client, project.now, None)
    after = snapshot(project)
    assert not after["model_version"]
    assert after["versions"] == {}
    assert [data["title"] for _, data in after["views"]] == ["Default"]
    assert any("original value is unknown" in line for line in report.left)


def test_verify_first__gives_the_task_back(
    make_project: MakeProject, client: StudioClient, second_annotator: StudioClient
) -> None:
    project = make_project(10)
    order = chosen(project, 4)
    published = put(project, order)
    before = client.http.json("GET", f"/api/tasks/{order[0]}/")
    found = verify_first(client, project.now, order)
    assert (found.outcome, found.task, found.rank, found.ok) == ("first", order[0], 0, True)
    after = client.http.json("GET", f"/api/tasks/{order[0]}/")
    for name in ("annotations", "total_annotations", "cancelled_annotations", "is_labeled", "drafts"):
        assert after[name] == before[name]
    # Had the lock stayed, the other annotator would start with rank 1.
    assert project.serve([second_annotator], 4) == order
    assert published.created == 4


def test_verify_first__names_what_comes_before(
    make_project: MakeProject, client: StudioClient, second_annotator: StudioClient
) -> None:
    project = make_project(8)
    held = client.next_task(project.id)
    assert held is not None
    order = [task for task in project.tasks if task != held["id"]][3:6]
    put(project, order)
    assert verify_first(client, project.now, order).outcome == "own task"
    second_annotator.next_task(project.id)
    # The token's user still holds the old task: nothing was taken from them.
    release(client, held["id"])
    found = verify_first(client, project.now, order)
    assert (found.outcome, found.rank) == ("later", 1)
    client.update_project(project.id, sampling="Sequential sampling")
    assert verify_first(client, project.now, order).outcome == "elsewhere"


@pytest.mark.parametrize("killed", ["with the lock taken", "with the skip made"])
def test_verify_first__takes_back_what_a_killed_call_left(
    make_project: MakeProject, client: StudioClient, second_annotator: StudioClient, killed: str
) -> None:
    project = make_project(10)
    order = chosen(project, 4)
    put(project, order)
    since = client.clock()
    held = client.next_task(project.id)
    assert held is not None
    assert held["id"] == order[0]
    if killed == "with the skip made":
        client.annotate(order[0], [], was_cancelled=True)
    assert verify_first(client, project.now, order, since=since).outcome == "first"
    assert all(task.unlabeled for task in client.tasks(project.id, only_unlabeled=False))
    assert project.serve([second_annotator], 4) == order


def test_verify_first__leaves_the_skips_that_somebody_decided_on(
    make_project: MakeProject, client: StudioClient
) -> None:
    project = make_project(10)
    order = chosen(project, 4)
    client.annotate(order[0], [], was_cancelled=True)
    put(project, order)
    time.sleep(1.1)  # Label Studio's clock is read in whole seconds
    since = client.clock()
    # skipped in the browser, which tells how long it took
    body = {"result": [], "was_cancelled": True, "lead_time": 3.5}
    path = f"/api/tasks/{order[0]}/annotations/"
    client.http.json("POST", path, params={"was_cancelled": 1}, body=body)
    found = verify_first(client, project.now, order, since=since)
    assert (found.outcome, found.task) == ("later", order[1])
    assert [one["lead_time"] for one in client.annotations(order[0])] == [None, 3.5]

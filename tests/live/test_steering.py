"""Wishes of people on a real Label Studio: pinned and excluded tasks of the next run, tasks asked for in the queue."""

from collections.abc import Callable

from live_studio import LiveProject, choice
from shell import Shell, local

from usl_backend.jobs import Jobs
from usl_backend.settings import HostSettings
from usl_backend.sinks.standing import standing
from usl_backend.studio.client import StudioClient
from usl_backend.studio.preannotations import predictions
from usl_backend.web import create_app


def test_steering__next_run_and_queue_in_force(
    shell: Shell,
    make_project: Callable[..., LiveProject],
    pictures: list[str],
    second_annotator: StudioClient,
) -> None:
    project = make_project(data=[local(name) for name in pictures[:60]])
    number = project.id
    project.predict(project.tasks[:30], version="other", label="dog")
    first = shell("select", number, "--budget", 6, "--reserve", 8, "--json").json
    queued = [entry["task"] for entry in first["queue"]]
    picks, spares = queued[:6], queued[6:]
    others = [task for task in project.tasks if task not in queued]
    host = HostSettings.load({}, environ=shell.environment)
    api = create_app(host, Jobs(shell.store, host)).test_client()
    base = f"/usl/api/projects/{number}"

    # asked for: behind the picks, in the order given; a spare moves up; what is there stays
    wanted = [others[3], spares[-1], picks[2], others[0]]
    dry = shell("queue", number, *wanted, "--dry-run", "--json").json
    assert project.model_versions()[first["summary"]["model_version"]] == 14 + others_carried(project, queued)
    told = shell("queue", number, *wanted, "--json").json
    assert told == dry
    assert told["new"] == [others[3], spares[-1], others[0]]
    again = api.post(f"{base}/queue", json={"tasks": wanted})
    assert (again.status_code, again.json["new"]) == (200, []), "twice does nothing twice"
    assert api.get(f"{base}/queue").json["tasks"] == told["new"]

    # most like one, behind those
    like = api.post(f"{base}/similar", json={"task": picks[0], "tasks": 5})
    assert like.status_code == 200, like.json
    assert shell("like", number, picks[0], "--tasks", 5, "--json").json["new"] == []
    near = like.json["new"]
    ahead = [*picks, *told["new"], *near]
    behind = [task for task in spares if task not in ahead]
    assert in_force(shell, project)
    # taken out: what annotators see of another model goes on being shown
    shown = {one.task for one in predictions(project.client, number) if one.result}
    out = shell("queue", number, others[3], near[0], picks[1], "--remove", "--json").json
    assert out["removed"] == [others[3], near[0]]
    assert out["passed_over"] == {str(picks[1]): "nobody asked for it"}
    assert {one.task for one in predictions(project.client, number) if one.result} == shown
    assert shell("queue", number, others[3], "--remove", "--json").json["removed"] == []
    left = [task for task in [*ahead, *behind] if task not in (others[3], near[0])]
    assert in_force(shell, project)
    assert project.serve([project.client, second_annotator], len(left)) == left

    # for the next run
    free = [task for task in project.tasks if task not in left]
    pin, barred = free[:2], free[2:5]
    assert f"task {picks[0]} has a label already" in shell("pin", number, picks[0]).err
    assert f"project {number} has no task 999999" in shell("exclude", number, 999999).err
    assert api.post(f"{base}/pins", json={"tasks": pin}).json["tasks"] == pin
    assert shell("exclude", number, *barred, pin[1], "--json").json["tasks"] == [*barred, pin[1]]
    assert api.get(f"{base}/pins").json["tasks"] == pin[:1], "the last wish holds"
    assert api.delete(f"{base}/exclusions", json={"tasks": [pin[1]]}).json["tasks"] == barred
    shell("pin", number, pin[1])
    gone = free[5]
    shell("pin", number, gone)
    project.client.http.request("DELETE", f"/api/tasks/{gone}/").close()
    run = Jobs(shell.store, host).enqueue(number, explicit={"budget": 4})
    assert (run.settings["pin"], run.settings["exclude"]) == ([*map(str, [*pin, gone])], [*map(str, barred)])
    shell.store.cancel(run.id)
    done = shell("select", number, "--budget", 4, "--reserve", 60, "--json").json
    queue = [entry["task"] for entry in done["queue"]]
    assert queue[:2] == pin
    assert not set(queue) & set(barred)
    assert any(
        f"{gone} is pinned, but project {number} has no such task" in one
        for one in done["summary"]["warnings"]
    )
    assert "is excluded" in str(shell("queue", number, barred[0], "--json").json["passed_over"])
    project.client.annotate(queue[-1], [choice("dog")])
    assert "it has a label" in str(shell("queue", number, queue[-1], "--json").json["passed_over"])


def others_carried(project: LiveProject, queued: list[int]) -> int:
    """Tasks outside the queue whose pre-annotation was copied behind it."""
    return len(set(project.tasks[:30]) - set(queued))


def in_force(shell: Shell, project: LiveProject) -> bool:
    """The queue is whole and served in order."""
    found = standing(project.client, project.client.project(project.id), store=shell.store, serve=True)
    assert found.ok, found
    return found.kind == "in force"

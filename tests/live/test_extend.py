"""New tasks behind a run on a real Label Studio, without a new run."""

from collections.abc import Callable

from live_studio import LiveProject
from shell import Shell, local

from usl_backend.runs.extensions import read_extensions
from usl_backend.studio.client import StudioClient


def test_extend__queues_new_tasks_behind_the_picks(
    shell: Shell,
    make_project: Callable[..., LiveProject],
    pictures: list[str],
    second_annotator: StudioClient,
) -> None:
    project = make_project(data=[local(name) for name in pictures[:60]])
    told = shell("extend", project.id)
    assert told.code == 1
    assert f"project {project.id} has no published queue of usl-backend" in told.err

    told = shell("select", project.id, "--budget", 6, "--reserve", 2, "--json")
    assert told.code == 0, told.err
    run = told.json
    ranked = [entry["task"] for entry in run["queue"]]
    told = shell("extend", project.id)
    assert told.code == 0, told.err
    assert "no tasks came after the run" in told.out

    # Some pictures as before, and one task that cannot be read.
    names = [*pictures[60:70], "none.png"]
    new = project.add_tasks([local(name) for name in names])
    dry = shell("extend", project.id, "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert sorted(dry.json["tasks"]) == sorted(new[:10])
    assert (dry.json["queued"], dry.json["new_run"], list(dry.json["skipped"])) == (0, False, [str(new[10])])
    assert project.model_versions() == {run["summary"]["model_version"]: 8}

    told = shell("extend", project.id)
    assert told.code == 0, told.err
    assert f"warning: task {new[10]} is left out" in told.out
    assert "10 of them were queued now" in told.out
    assert project.model_versions() == {run["summary"]["model_version"]: 18}
    annotators = [project.client, second_annotator]
    assert project.serve(annotators, 12) == [*ranked, *dry.json["tasks"][:4]]

    # Twelve tasks are labeled; those queued keep their place, and the newest come behind them.
    newer = project.add_tasks([local(name) for name in pictures[70:80]])
    told = shell("extend", project.id, "--json")
    assert told.code == 0, told.err
    assert set(newer) <= set(told.json["tasks"])
    assert told.json["queued"] == 10
    assert told.json["new_run"], "sixteen of sixty are more than a fifth"
    left = [task for task in told.json["tasks"] if task in newer]
    assert project.serve(annotators, 16) == [*dry.json["tasks"][4:], *left]
    # The run itself knows nothing of them, but what was done is noted for its page.
    notes = [note for note in read_extensions(shell.store.files(run["id"])) if note.tasks]
    assert [(note.queued, note.skipped, note.new_run) for note in notes] == [(10, 1, False), (10, 1, True)]
    pool, _ = shell.store.files(run["id"]).read_pool()
    assert not set(pool.ids.tolist()) & set(new)

    project.client.update_project(project.id, model_version="")
    told = shell("extend", project.id)
    assert told.code == 1
    assert f"project {project.id} has no published queue of usl-backend that new tasks can join" in told.err
    assert f"run `usl-backend publish {run['id']}` first" in told.err

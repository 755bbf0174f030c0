"""Suggestions on a real Label Studio: from labels on the picks to choices filled in, and back."""

from collections.abc import Callable

from live_studio import LiveProject, choice
from shell import Shell, local

from usl_backend.demo import dataset

KINDS = {0: "cat", 2: "cat", 3: "cat", 4: "cat", 6: "cat", 5: "dog", 7: "dog", 9: "dog"}
"""Three kinds of clothes: for the upper body, for the feet, and the rest ("owl")."""


def kinds(project: LiveProject) -> dict[int, str]:
    """Task -> its right class."""
    labels = dataset.load().labels[: len(project.tasks)].tolist()
    return {task: KINDS.get(label, "owl") for task, label in zip(project.tasks, labels, strict=True)}


def test_suggest__from_labels_to_suggestions(
    shell: Shell, make_project: Callable[..., LiveProject], pictures: list[str]
) -> None:
    project = make_project(data=[local(name) for name in pictures[:120]])
    right = kinds(project)
    told = shell("select", project.id, "--budget", 12, "--control", 20, "--reserve", 3)
    assert told.code == 0, told.err
    run = shell.store.latest(project.id)
    assert run is not None
    queue = shell.store.files(run.id).read_published().queue

    told = shell("suggest", project.id, "--dry-run")
    assert told.code == 1
    assert f"run {run.id}: no task has a label; label some of its picks, of two classes at least" in told.err

    for task in queue.of_role("pick"):
        project.client.annotate(task, [choice(right[task])])
    told = shell("suggest", project.id, "--dry-run", "--json")
    assert told.code == 0, told.err
    assert sum(told.json["labels"].values()) == 12
    assert sum(told.json["suggestions"].values()) == 120 - 12
    assert told.json["promise"].startswith("none can be accepted at 95 %: 0 control labels, 45 more needed")
    told = shell("suggest", project.id, "--dry-run")
    assert "confidence: an order only" in told.out
    assert "dry run: nothing was written to Label Studio" in told.out
    assert project.model_versions() == {run.summary.model_version: len(queue)}

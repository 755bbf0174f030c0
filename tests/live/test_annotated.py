"""Annotations followed by their changes against the full export, after everything that annotators can do."""

from collections.abc import Callable

from live_studio import LiveProject, choice

from usl_backend.studio import annotated
from usl_backend.studio.annotated import AnnotatedTasks, annotator_names
from usl_backend.studio.client import StudioClient
from usl_backend.studio.label_config import parse
from usl_backend.studio.labels import read_labels


def test_update__is_the_export_after_every_change(
    make_project: Callable[..., LiveProject], second_annotator: StudioClient, monkeypatch
) -> None:
    project = make_project(40)
    client, tasks = project.client, project.tasks
    config = parse(project.now.label_config)
    followed = AnnotatedTasks(project.id)
    whole = []
    monkeypatch.setattr(
        AnnotatedTasks, "_whole", lambda self, client, read=AnnotatedTasks._whole: whole.append(1) or read(self, client)
    )  # fmt: skip

    def same() -> bool:
        changed = followed.update(client)
        exported = {task.id: task for task in client.labeled(project.id)}
        assert sorted(followed.tasks) == sorted(exported)
        assert read_labels(followed.tasks.values(), config) == read_labels(exported.values(), config)
        assert not followed.update(client)
        return changed

    assert not same()
    first = client.annotate(tasks[0], [choice("cat")])
    client.annotate(tasks[1], [choice("dog")])
    second_annotator.annotate(tasks[1], [choice("owl")])
    client.annotate(tasks[2], [], was_cancelled=True)
    assert same()
    client.http.json("PATCH", f"/api/annotations/{first}/", body={"result": [choice("owl")]})
    assert same()
    assert read_labels(followed.tasks.values(), config).by_task[tasks[0]] == ("owl",)
    client.delete_annotation(first)
    assert same()
    assert tasks[0] not in followed.tasks
    assert len(whole) == 1, "changes alone were asked for"
    project.add_tasks([{"image": f"http://example.com/new-{number}.png"} for number in range(3)])
    assert not same()

    def act(name: str, task: int) -> None:
        """A bulk action of the Data Manager on one task."""
        body = {"selectedItems": {"all": False, "included": [task]}, "ordering": []}
        params = {"id": name, "project": project.id}
        client.http.json("POST", "/api/dm/actions/", params=params, body=body)

    act("delete_tasks_annotations", tasks[1])
    assert same()
    assert len(whole) == 1
    # Deleted tasks are dated nowhere: the counts give them away.
    act("delete_tasks", tasks[2])
    assert same()
    assert len(whole) == 2

    # So many new tasks that reading the annotated ones is cheaper.
    monkeypatch.setattr(annotated, "MANY", 2)
    client.annotate(tasks[5], [choice("cat")])
    assert same()
    assert {"owner@example.com", "second@example.com"} <= set(annotator_names(client).values())

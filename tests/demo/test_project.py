from collections.abc import Callable
from pathlib import Path

import pytest
from live_studio import LiveProject

from usl_backend.demo import dataset, project
from usl_backend.errors import StudioError
from usl_backend.studio.client import StudioClient
from usl_backend.studio.fields import embedded_fields
from usl_backend.studio.label_config import parse


def test_label_config__is_what_the_backend_reads() -> None:
    classes = ("T-shirt/top", 'Say "cheese" & <smile>', "Bag")
    config = parse(project.label_config(classes))
    assert config.classes == classes
    assert embedded_fields(config)[0].tag.data_key == "image"
    assert config.classifier is not None
    assert config.classifier.name == project.CONTROL["from_name"]


@pytest.mark.live
def test_fill__uploads_what_is_missing_and_knows_each_picture(
    client: StudioClient, make_project: Callable[..., LiveProject], tmp_path: Path
) -> None:
    made = make_project(0, project.label_config(dataset.CLASSES))
    pictures = dataset.write_images(tmp_path)
    total = len(pictures)
    assert total > 1000  # more than Label Studio on SQLite lists of uploads in one page
    assert project.find_or_create(client, made.id, title="", config="") == made.id
    project.fill(client, made.id, pictures[3:8])
    seen: list[tuple[int, int]] = []
    indices = project.fill(
        client, made.id, pictures, progress=lambda _, done, total: seen.append((done, total))
    )
    assert sorted(indices.values()) == list(range(total))
    assert seen == [(done, total) for done in [*range(105, total, 100), total]]
    for task in list(client.tasks(made.id))[::100]:
        location = client.locate(task.id, str(task.data["image"]))
        answer = client.http.request("GET", str(location.url).removeprefix(client.url))
        assert answer.content == pictures[indices[task.id]].read_bytes()


@pytest.mark.live
def test_find_or_create__deleted_project_is_made_anew(client: StudioClient) -> None:
    config = project.label_config(dataset.CLASSES)
    first = project.find_or_create(client, None, title=project.TITLE, config=config)
    client.http.request("DELETE", f"/api/projects/{first}/")
    second = project.find_or_create(client, first, title=project.TITLE, config=config)
    assert client.project(second).title == project.TITLE
    client.http.request("DELETE", f"/api/projects/{second}/")


def test_fill__fewer_tasks_than_files_is_an_error(tmp_path: Path) -> None:
    class Http:
        def json(self, method: str, path: str, **options: object) -> object:
            return {"task_count": 1}

    class Client:
        http = Http()

        def tasks(self, project_id: int, **options: object) -> list[object]:
            return []

    pictures = dataset.write_images(tmp_path)[:2]
    with pytest.raises(StudioError, match="1 tasks from 2 uploaded"):
        project.fill(Client(), 1, pictures)  # type: ignore[arg-type]

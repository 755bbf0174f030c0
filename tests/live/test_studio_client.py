from collections.abc import Callable

import pytest
from live_studio import LiveProject, LiveStudio, choice

from usl_backend.errors import StudioAuthError, StudioNotFoundError
from usl_backend.studio.client import StudioClient
from usl_backend.studio.transport import token_claims

MakeProject = Callable[..., LiveProject]


def test_client__both_token_kinds_are_accepted(
    label_studio: LiveStudio, personal_token: str, make_project: MakeProject
) -> None:
    project = make_project(3)
    for token, kind in ((label_studio.token, "legacy"), (personal_token, "personal")):
        with StudioClient(label_studio.url, token) as client:
            assert client.token_kind == kind
            assert client.whoami() == label_studio.username
            assert [task.id for task in client.tasks(project.id)] == list(project.tasks)
            client.update_project(project.id, sampling="Uniform sampling")
            assert client.project(project.id).sampling == "Uniform sampling"
            client.update_project(project.id, sampling="Sequential sampling")


def test_client__access_token_is_renewed_before_it_ends(
    label_studio: LiveStudio, personal_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StudioClient(label_studio.url, personal_token) as client:
        first = client.http.authorization()
        assert client.http.authorization() == first
        lives = token_claims(first.removeprefix("Bearer "))
        assert lives is not None
        # 80 s before its end it is too old: a download that starts now must not meet its end.
        monkeypatch.setattr("usl_backend.studio.transport.time.time", lambda: lives["exp"] - 80.0)
        assert client.http.authorization() != first


def test_client__revoked_access_token_is_renewed_after_a_401(
    label_studio: LiveStudio, personal_token: str
) -> None:
    with StudioClient(label_studio.url, personal_token) as client:
        client.http.authorization()
        client.http._access = "e30.e30.e30"
        assert client.whoami() == label_studio.username


@pytest.mark.parametrize("token", ["f" * 40, "personal"])
def test_client__wrong_token_names_the_remedy(
    label_studio: LiveStudio, personal_token: str, token: str
) -> None:
    if token == "personal":
        head, payload, _ = personal_token.split(".")
        token = f"{head}.{payload}.{'A' * 43}"
    with StudioClient(label_studio.url, token) as client:
        with pytest.raises(StudioAuthError, match="create a") as refusal:
            client.whoami()
        assert token not in str(refusal.value)


def test_project__unknown_is_named(client: StudioClient) -> None:
    with pytest.raises(StudioNotFoundError, match="project 999999 does not exist"):
        client.project(999999)


def test_project__key_is_what_setup_calls_it(client: StudioClient, make_project: MakeProject) -> None:
    project = make_project(1)
    raw = client.http.json("GET", f"/api/projects/{project.id}/")
    number, created = project.now.key.split(".")
    assert int(number) == project.id
    assert abs(int(created) - project.now.created_at) < 1
    assert raw["title"] == project.now.title


def test_tasks__only_those_without_any_annotation(client: StudioClient, make_project: MakeProject) -> None:
    project = make_project(6, maximum_annotations=2)
    submitted, skipped, empty, begun, *rest = project.tasks
    client.annotate(submitted, [choice("cat")])
    client.annotate(skipped, [], was_cancelled=True)
    client.annotate(empty, [])
    client.delete_annotation(client.annotate(begun, [choice("cat")]))
    assert [task.id for task in client.tasks(project.id)] == [begun, *rest]
    counts = {
        task.id: (task.annotations, task.cancelled) for task in client.tasks(project.id, only_unlabeled=False)
    }
    assert counts[submitted] == (1, 0)
    assert counts[skipped] == (0, 1)
    assert counts[empty] == (1, 0)


def test_tasks__pages_and_data_key(
    client: StudioClient, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [{"image": f"s3://bucket/{i}.png", "note": "n" * i} for i in range(7)]
    project = make_project(data=data)
    monkeypatch.setattr("usl_backend.studio.client.PAGE_SIZE", 3)
    seen: list[tuple[int, int]] = []
    tasks = list(
        client.tasks(project.id, data_key="image", progress=lambda _, done, total: seen.append((done, total)))
    )
    assert [task.id for task in tasks] == list(project.tasks)
    assert [dict(task.data) for task in tasks] == [{"image": row["image"]} for row in data]
    assert seen == [(3, 7), (6, 7), (7, 7)]
    assert list(client.tasks(make_project(0).id)) == []


def test_labeled__streams_annotated_tasks_only(
    client: StudioClient, make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(5)
    client.annotate(project.tasks[1], [choice("cat")])
    client.annotate(project.tasks[3], [], was_cancelled=True)
    monkeypatch.setattr("usl_backend.studio.client._READ_SIZE", 7)
    labeled = {task.id: task for task in client.labeled(project.id)}
    assert set(labeled) == {project.tasks[1], project.tasks[3]}
    assert labeled[project.tasks[1]].annotations[0]["result"][0]["value"] == {"choices": ["cat"]}
    assert labeled[project.tasks[3]].annotations[0]["was_cancelled"] is True


def test_next_task__none_when_all_is_labeled(client: StudioClient, make_project: MakeProject) -> None:
    project = make_project(1)
    assert project.serve([client], 3) == list(project.tasks)
    assert client.next_task(project.id) is None
    with pytest.raises(StudioNotFoundError):
        client.next_task(999999)

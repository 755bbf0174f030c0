"""Connecting a backend as the UI does, with a backend that only notes what it is asked."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from live_studio import LiveProject, LiveStudio, choice
from recorder import CREDENTIALS, Recorder

from usl_backend.demo.studio_server import LabelStudioServer
from usl_backend.errors import InputError, StudioAuthError, StudioError, StudioNotFoundError
from usl_backend.studio import backend
from usl_backend.studio.client import StudioClient

MakeProject = Callable[..., LiveProject]


def test_connect__as_the_form_does_and_without_a_webhook(
    make_project: MakeProject, client: StudioClient, recorder: Recorder
) -> None:
    project = make_project(2)
    done = backend.connect(
        client, project.id, recorder.url + "/", basic_auth=CREDENTIALS, extra_params={"budget": 7}
    )
    assert done.created
    assert done.webhooks == 1
    assert done.backend.connected
    told = recorder.bodies("/setup")[-1]
    assert told["project"] == project.now.key
    # Text, as from the form: the form shows it again and does not lose it at the next save.
    assert json.loads(told["extra_params"]) == {"budget": 7}
    assert project.now.model_version == "USL"
    before = len(recorder.bodies("/webhook"))
    client.annotate(project.tasks[0], [choice("cat")])
    assert len(recorder.bodies("/webhook")) == before


def test_connect__again_updates_the_same_row(
    make_project: MakeProject, client: StudioClient, recorder: Recorder
) -> None:
    project = make_project(1)
    first = backend.connect(
        client, project.id, recorder.url, basic_auth=CREDENTIALS, extra_params={"budget": 7}
    )
    again = backend.connect(
        client, project.id, recorder.url, basic_auth=CREDENTIALS, extra_params={"budget": 9}
    )
    assert not again.created
    assert again.backend.id == first.backend.id
    assert len(backend.backends(client, project.id)) == 1
    assert json.loads(recorder.bodies("/setup")[-1]["extra_params"]) == {"budget": 9}


def test_opening_a_task__asks_the_backend_only_until_a_queue_is_in_force(
    make_project: MakeProject, client: StudioClient, recorder: Recorder
) -> None:
    project = make_project(5)
    backend.connect(client, project.id, recorder.url, basic_auth=CREDENTIALS)
    recorder.requests.clear()
    assert len(project.serve([client], 1)) == 1
    assert [path for path, _ in recorder.requests] == ["/health", "/setup", "/predict"]
    project.predict(project.tasks[:3], version="usl-1")
    client.http.json("PATCH", f"/api/projects/{project.id}/", body={"model_version": "usl-1"})
    recorder.requests.clear()
    assert len(project.serve([client], 4)) == 4  # with and without a prediction
    assert recorder.requests == []


def test_start_training__reaches_the_backend_without_a_webhook(
    make_project: MakeProject, client: StudioClient, recorder: Recorder
) -> None:
    project = make_project(1)
    backend.connect(client, project.id, recorder.url, basic_auth=CREDENTIALS)
    backend.start_training(client, project.id, recorder.url)
    starts = [body for body in recorder.bodies("/webhook") if body["action"] == "START_TRAINING"]
    assert [body["project"]["id"] for body in starts] == [project.id]


def test_disconnect__leaves_neither_row_nor_webhook(
    make_project: MakeProject, client: StudioClient, recorder: Recorder
) -> None:
    project = make_project(1)
    backend.connect(client, project.id, recorder.url, basic_auth=CREDENTIALS)
    assert backend.disconnect(client, project.id, recorder.url)
    assert backend.backends(client, project.id) == []
    assert client.http.json("GET", "/api/webhooks/", params={"project": project.id}) == []
    assert not backend.disconnect(client, project.id, recorder.url)
    with pytest.raises(StudioNotFoundError, match="usl-backend connect"):
        backend.start_training(client, project.id, recorder.url)


@pytest.mark.parametrize(
    ("credentials", "remedy"), [(None, "BASIC_AUTH_USER"), (("usl", "wrong"), "BASIC_AUTH")]
)
def test_connect__wrong_credentials_leave_nothing_behind(
    make_project: MakeProject,
    client: StudioClient,
    recorder: Recorder,
    credentials: tuple[str, str] | None,
    remedy: str,
) -> None:
    project = make_project(1)
    with pytest.raises(StudioError, match=remedy):
        backend.connect(client, project.id, recorder.url, basic_auth=credentials)
    assert backend.backends(client, project.id) == []


def test_connect__nobody_at_the_address(make_project: MakeProject, client: StudioClient) -> None:
    project = make_project(1)
    with pytest.raises(StudioError, match=r"USL_PUBLIC_URL.* USL_PAGES_URL"):
        backend.connect(client, project.id, "http://127.0.0.1:9")
    assert backend.backends(client, project.id) == []


def test_connect__title_of_a_run_is_refused(make_project: MakeProject, client: StudioClient) -> None:
    with pytest.raises(InputError, match="usl-12-1"):
        backend.connect(client, 1, "http://127.0.0.1:9", title="usl-12-1")


@pytest.mark.parametrize("blocked", [True, False], ids=["by default", "as most guides say"])
def test_connect__private_address_on_a_guarded_server(
    label_studio: LiveStudio,
    studio_executable: Path,
    studio_template: Path,
    tmp_path: Path,
    recorder: Recorder,
    blocked: bool,
) -> None:
    guards = tuple(int(part) for part in label_studio.version.split(".")) >= (1, 23, 1)
    directory = tmp_path / "data"
    shutil.copytree(studio_template, directory)
    guarded = {"SSRF_PROTECTION_ENABLED": "true", "ML_BLOCK_LOCAL_IP": str(blocked)}
    server = LabelStudioServer(
        directory,
        username=label_studio.username,
        password=label_studio.password,
        token=label_studio.token,
        executable=studio_executable,
        environment=guarded,
    )
    with server, StudioClient(server.url, label_studio.token, timeout=60) as client:
        project = client.http.json("POST", "/api/projects/", body={"title": "guarded"})["id"]
        body = {"project": project, "url": recorder.url, "title": "as the form does"}
        body |= {"auth_method": "BASIC_AUTH", "basic_auth_user": "usl", "basic_auth_pass": "pass word"}
        if blocked or guards:
            # The form always meets a 403; what it leaves differs.
            with pytest.raises(StudioAuthError, match="reserved network address"):
                client.http.json("POST", "/api/ml/", body=body)
        else:
            client.http.json("POST", "/api/ml/", body=body)
        left = [row.connected for row in backend.backends(client, project)]
        assert left == ([] if blocked else [True])
        backend.disconnect(client, project, recorder.url)
        if blocked:
            with pytest.raises(backend.AddressRefusedError, match="SSRF_PROTECTION_ENABLED=false"):
                backend.connect(client, project, recorder.url, basic_auth=CREDENTIALS)
            assert backend.backends(client, project) == []
        else:
            made = backend.connect(client, project, recorder.url, basic_auth=CREDENTIALS)
            assert made.webhooks == (0 if guards else 1)
            backend.start_training(client, project, recorder.url)
            assert [body["action"] for body in recorder.bodies("/webhook")] == ["START_TRAINING"]

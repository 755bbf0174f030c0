"""The doctor on a real project: every line of it, well and ill."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live_studio import LiveProject, LiveStudio, choice
from PIL import Image
from recorder import CREDENTIALS, Recorder

from usl_backend.doctor import Check, connect, diagnose
from usl_backend.settings import HostSettings
from usl_backend.studio.client import StudioClient
from usl_backend.studio.queue import publish

MakeProject = Callable[..., LiveProject]
BOXES = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image"><Label value="car"/></RectangleLabels></View>"""


@pytest.fixture
def host(label_studio: LiveStudio, tmp_path: Path, recorder: Recorder) -> HostSettings:
    values: dict[str, Any] = {
        "label_studio_url": label_studio.url,
        "label_studio_api_key": label_studio.token,
        "model_dir": tmp_path,
        "port": recorder.server_address[1],
        "basic_auth_user": CREDENTIALS[0],
        "basic_auth_pass": CREDENTIALS[1],
    }
    return HostSettings.load(values, environ={})


def png(colour: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(data, "PNG")
    return data.getvalue()


def upload(project: LiveProject, *contents: bytes) -> None:
    for number, content in enumerate(contents):
        files = {"file": (f"picture{number}.png", content, "image/png")}
        project.client.http.request("POST", f"/api/projects/{project.id}/import", files=files).close()


def lines(checks: list[Check]) -> dict[str, Check]:
    assert all(bool(check.remedy) == (check.status != "ok") for check in checks)
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def test_diagnose__all_is_well_after_connect(
    make_project: MakeProject, host: HostSettings, recorder: Recorder
) -> None:
    project = make_project(0, BOXES)
    upload(project, png("red"), png("blue"))
    before = lines(diagnose(host, project.id))
    assert before["connection seen by Label Studio"].status == "warning"
    assert f"usl-backend connect {project.id}" in before["connection seen by Label Studio"].remedy
    after = lines(connect(host, project.id, extra_params={"budget": 3}))
    assert after["connection"].status == "ok"
    found = lines(diagnose(host, project.id))
    assert [check for check in found.values() if check.status != "ok"] == []
    assert {"data directory", "disk space", "encoder", "Label Studio", "token", "backend server"} < set(found)
    assert {"project", "label config", "media", "connection seen by Label Studio", "queue", "overlap"} < set(
        found
    )
    assert "2 of 2 tasks" in found["media"].detail


def test_diagnose__backend_went_away(
    make_project: MakeProject, host: HostSettings, recorder: Recorder
) -> None:
    project = make_project(1)
    connect(host, project.id)
    recorder.shutdown()
    recorder.server_close()
    found = lines(diagnose(host, project.id))
    assert found["backend server"].status == "warning"
    assert found["connection seen by Label Studio"].status == "failed"
    assert "host.docker.internal" in found["connection seen by Label Studio"].remedy


def test_diagnose__ill_project(
    make_project: MakeProject, host: HostSettings, client: StudioClient, second_annotator: StudioClient
) -> None:
    project = make_project(4, maximum_annotations=2)
    client.annotate(project.tasks[3], [choice("cat")])
    publish(client, project.now, run_id=f"{project.id}-1", picks=list(project.tasks[:2]))
    second_annotator.annotate(project.tasks[0], [choice("cat")])
    client.update_project(project.id, sampling="Sequential sampling")
    found = lines(diagnose(host, project.id))
    # A started task of the queue is as it should be, one outside is not.
    assert found["overlap"].status == "warning"
    assert f"1 started tasks outside the queue (first: task {project.tasks[3]})" in found["overlap"].detail
    assert found["queue"].status == "warning"
    assert found["media"].status == "failed"


def test_diagnose__broken_pictures_and_nothing_to_choose(
    make_project: MakeProject, host: HostSettings, client: StudioClient
) -> None:
    project = make_project(0)
    upload(project, png("red"), b"no picture at all", png("green"))
    found = lines(diagnose(host, project.id))
    assert found["media"].status == "warning"
    assert "1 of 3" in found["media"].detail
    for task in client.tasks(project.id):
        client.annotate(task.id, [choice("cat")])
    assert lines(diagnose(host, project.id))["project"].status == "failed"


def test_diagnose__text_project_and_unknown_project(make_project: MakeProject, host: HostSettings) -> None:
    text = """<View><Text name="t" value="$text"/>
    <Choices name="c" toName="t"><Choice value="a"/></Choices></View>"""
    project = make_project(label_config=text, data=[{"text": "hello"}])
    found = lines(diagnose(host, project.id))
    assert found["label config"].detail == "Text 't' shows data key 'text'"
    assert (found["label config"].status, found["media"].status) == ("ok", "ok")
    assert lines(diagnose(host, 999999))["project"].status == "failed"


def test_diagnose__refused_token(host: HostSettings, make_project: MakeProject, tmp_path: Path) -> None:
    values = {
        "label_studio_url": host.label_studio_url,
        "label_studio_api_key": "f" * 40,
        "model_dir": tmp_path,
    }
    found = lines(diagnose(HostSettings.load(values, environ={}), 1))
    assert found["Label Studio"].status == "ok"
    assert found["token"].status == "failed"
    assert "project" not in found

"""Label Studio under two addresses, one for browsers and one for the backend, as in compose.yaml and behind a proxy."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
from live_studio import LiveStudio
from proxy import FaultyProxy
from shell import Shell, environment_for, forget_host_settings

from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.dataset import write_images
from usl_backend.demo.studio_server import free_port
from usl_backend.runs import RunStore
from usl_backend.studio.client import StudioClient

CONFIG = """<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="a"/><Choice value="b"/>
</Choices></View>"""
FOLDER = "album"
TASKS = 6


@dataclass
class Twofold:
    """A Label Studio, the address that browsers have, the proxy there, and a project of a Local-files storage."""

    studio: LiveStudio
    public: str
    proxy: FaultyProxy
    project: int
    tasks: dict[int, str]


@pytest.fixture(scope="module", params=["", "/ls"], ids=["another name", "a sub-path"])
def twofold(
    request: pytest.FixtureRequest,
    start_studio: Callable[..., AbstractContextManager[LiveStudio]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Twofold]:
    """Label Studio behind a proxy whose address it takes for its own, with a Local-files storage."""
    port = free_port()
    proxy = FaultyProxy(f"http://127.0.0.1:{port}", prefix=request.param)
    proxy.listen()
    public = f"http://localhost:{proxy.port}{request.param}"
    directory = tmp_path_factory.mktemp("two") / "data"
    try:
        with (
            start_studio(directory, port=port, LABEL_STUDIO_HOST=public) as studio,
            StudioClient(studio.url, studio.token) as client,
        ):
            folder = studio.documents_root / FOLDER
            folder.mkdir()
            for path in write_images(folder)[TASKS:]:
                path.unlink()
            body = {"title": "Album", "label_config": CONFIG}
            project = int(client.http.json("POST", "/api/projects/", body=body)["id"])
            storage = {"project": project, "path": str(folder), "use_blob_urls": True, "title": FOLDER}
            made = client.http.json("POST", "/api/storages/localfiles", body=storage)["id"]
            client.http.json("POST", f"/api/storages/localfiles/{made}/sync", body={})
            tasks = {task.id: task.data["image"] for task in client.tasks(project)}
            yield Twofold(studio, public, proxy, project, tasks)
    finally:
        proxy.hang_up()


@pytest.fixture
def shell(
    twofold: Twofold, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    """The backend's host: it knows the inner address only, and has no documents."""
    forget_host_settings(monkeypatch)
    environment = environment_for(twofold.studio, tmp_path / "data")
    del environment["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"]
    store = RunStore(tmp_path / "data")
    shell = Shell(environment, capsys, monkeypatch, store)
    yield shell
    shell.close()


def selected(shell: Shell, twofold: Twofold, **changed: str) -> int:
    told = shell("select", twofold.project, "--budget", 2, "--json", "--dry-run", **changed)
    assert told.code == 0, told.err
    return int(told.json["summary"]["pool"]["readable"])


def test_select__reads_what_tasks_name_by_the_address_of_browsers(twofold: Twofold, shell: Shell) -> None:
    assert len(twofold.tasks) == TASKS
    assert all(
        one.startswith(f"{twofold.public}/data/local-files/?d={FOLDER}/") for one in twofold.tasks.values()
    )
    # Whoever does not know the other address is told what to set, by the run and by the doctor.
    remedy = f"LABEL_STUDIO_HOST={twofold.public}"
    failed = shell("select", twofold.project, "--budget", 2)
    assert failed.code == 1
    assert f"{twofold.public}, which is not LABEL_STUDIO_URL ({twofold.studio.url})" in failed.err
    assert remedy in failed.err
    assert remedy in shell("doctor", twofold.project).out

    before = len(twofold.proxy.asked)
    both = {"LABEL_STUDIO_HOST": twofold.public}
    assert selected(shell, twofold, **both) == TASKS
    root = {"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(twofold.studio.documents_root)}
    assert selected(shell, twofold, **both, **root) == TASKS
    assert len(twofold.proxy.asked) == before, "nothing, and no token, is sent to the other address"
    # A backend beside the browsers reaches Label Studio through the proxy, with its sub-path.
    outer = {"LABEL_STUDIO_URL": twofold.public.replace("localhost", "127.0.0.1")}
    assert selected(shell, twofold, **both, **outer) == TASKS
    assert len(twofold.proxy.asked) > before


def test_connect__tells_the_address_of_browsers(twofold: Twofold, shell: Shell) -> None:
    with BackendServer(
        shell.data, studio_url=twofold.studio.url, api_key=twofold.studio.token, port=free_port()
    ) as server:
        told = shell("connect", twofold.project, USL_PUBLIC_URL=server.url)
        assert told.code == 0, told.err
    assert shell.store.public_addresses() == (twofold.public,)
    before = len(twofold.proxy.asked)
    assert selected(shell, twofold) == TASKS
    assert len(twofold.proxy.asked) == before
    found = shell("doctor", twofold.project).out
    assert "3 of 3 tasks tried can be read" in found
    assert "LABEL_STUDIO_HOST" not in found

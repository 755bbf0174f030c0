"""A shell for each test, and real pictures in Label Studio's local files."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_studio import LiveStudio
from recorder import Recorder
from shell import FOLDER, Shell, environment_for, forget_host_settings

from usl_backend.demo.dataset import write_images
from usl_backend.runs import RunStore


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A backend that only notes what it is asked."""
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def pictures(label_studio: LiveStudio) -> list[str]:
    """Names of the bundled pictures, as `shell.local` takes them."""
    folder = label_studio.documents_root / FOLDER
    folder.mkdir(exist_ok=True)
    return [path.name for path in write_images(folder)]


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings that the tests share, as runs of one data directory do."""
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture
def shell(
    label_studio: LiveStudio,
    embeddings: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shell]:
    forget_host_settings(monkeypatch)
    data = tmp_path / "data"
    store = RunStore(data)
    (data / "embeddings").symlink_to(embeddings)
    shell = Shell(environment_for(label_studio, data), capsys, monkeypatch, store)
    yield shell
    shell.close()

"""Starting Label Studio: what is said when it cannot, and that nothing else is touched."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from live_studio import LiveStudio

from usl_backend.demo.studio_server import LabelStudioServer, free_port
from usl_backend.errors import InputError, StudioError


def server(directory: Path, **options: Any) -> LabelStudioServer:
    credentials = {"username": "u@example.com", "password": "password-1", "token": "ab" * 20}
    return LabelStudioServer(directory, **(credentials | options))


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_start__that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    dying = program(tmp_path / "label-studio", "echo the disk is full; exit 3")
    with pytest.raises(StudioError, match="exit code 3") as failure:
        server(tmp_path / "data", executable=dying).start()
    assert "the disk is full" in str(failure.value)


def test_start__that_never_gets_ready_is_stopped(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    hanging = program(tmp_path / "label-studio", "echo waiting; sleep 60 & echo $! > child; wait")
    waited: list[float] = []
    slow = server(tmp_path / "data", executable=hanging, timeout=1.2, progress=waited.append)
    with pytest.raises(StudioError, match="not ready within 1 s"):
        slow.start()
    assert waited == sorted(waited)
    assert waited[-1] <= 1.2
    # Its children too, or at most their entry in the process table; a killed one may still be about to end.
    status = Path("/proc") / (tmp_path / "data" / "child").read_text().strip() / "stat"

    def is_over() -> bool:
        try:
            return status.read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_until(is_over, 10)


def test_start__taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}"):
            server(tmp_path / "data", port=port, executable=Path("/bin/false")).start()


def test_start__other_label_studios_settings_do_not_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "DJANGO_DB",
        "POSTGRE_HOST",
        "LABEL_STUDIO_BASE_DATA_DIR",
        "DATABASE_NAME",
        "LABEL_STUDIO_API_KEY",
    ):
        monkeypatch.setenv(name, "/elsewhere")
    telling = program(tmp_path / "label-studio", "env; echo arguments: $@; exit 1")
    with pytest.raises(StudioError):
        server(tmp_path / "data", executable=telling).start()
    log = (tmp_path / "data" / "label-studio.log").read_text()
    assert "/elsewhere" not in log
    assert f"LABEL_STUDIO_BASE_DATA_DIR={tmp_path / 'data'}" in log
    # What any user of the machine may read.
    arguments = next(line for line in log.splitlines() if line.startswith("arguments:"))
    assert "password-1" not in arguments
    assert "ab" * 20 not in arguments


def test_server__data_of_another_token_is_refused_and_the_server_stopped(
    label_studio: LiveStudio, studio_executable: Path, studio_template: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    shutil.copytree(studio_template, directory)
    wrong = server(directory, executable=studio_executable, username=label_studio.username)
    with pytest.raises(InputError, match="different token"), wrong:
        pass
    assert wrong.process_id is None
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{wrong.url}/health", timeout=5)
    # The session's own server, started before, was left alone.
    assert requests.get(f"{label_studio.url}/health", timeout=30).status_code == 200


def test_free_port__is_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))

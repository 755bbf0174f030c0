"""The command line as a user has it, for the live tests: in this process where that is enough, else in its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from live_studio import LiveStudio

from usl_backend.cli import main
from usl_backend.runs import RunStore
from usl_backend.settings import OPTIONS

FOLDER = "shop"
"""Below Label Studio's local-files root."""


@dataclass(frozen=True)
class Told:
    """What a verb left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Shell:
    """One user's shell: environment, data directory, and the verbs in it."""

    environment: dict[str, str]
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    store: RunStore
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return Path(self.environment["MODEL_DIR"])

    def __call__(self, *arguments: object, **changed: str) -> Told:
        """A verb, computed in this process: the same code, without two seconds of loading."""
        for name, value in (self.environment | changed).items():
            self.monkeypatch.setenv(name, value)
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        written = self.capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Told(left.value.code, written.out, written.err)

    def spawn(self, *arguments: object) -> subprocess.Popen[str]:
        """A verb in a process of its own, to be watched and stopped."""
        command = [sys.executable, "-m", "usl_backend", *map(str, arguments)]
        environment = {
            name: value for name, value in os.environ.items() if not _ours(name)
        } | self.environment
        child = subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.data
        )
        self.children.append(child)
        return child

    def close(self) -> None:
        self.store.close()
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.communicate()


def environment_for(studio: LiveStudio, data: Path) -> dict[str, str]:
    """What a user would have set, and the engine of all tests."""
    return {
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": studio.token,
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(studio.documents_root),
        "MODEL_DIR": str(data),
        "USL_ENGINE": "torch",
    }


def local(name: str) -> dict[str, str]:
    """Data of a task that shows a local file of Label Studio."""
    return {"image": f"/data/local-files/?d={FOLDER}/{name}"}


def _ours(name: str) -> bool:
    return name.startswith("USL_") or name in {option.environment for option in OPTIONS}


def forget_host_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own shell shall count."""
    for name in list(os.environ):
        if _ours(name):
            monkeypatch.delenv(name)

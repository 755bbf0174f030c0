"""The command line in processes that lack what macOS lacks; `data/macos/sitecustomize.py` says what that is."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digit_run import png
from sklearn.datasets import load_digits

SIMULATION = Path(__file__).parent / "data" / "macos"
DIGITS = load_digits().data.astype(np.float32)


def ours() -> dict[str, str]:
    """This environment without settings of the host."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("USL_", "LABEL_STUDIO_", "BASIC_AUTH_")) and name != "MODEL_DIR"
    }


@pytest.fixture
def on_mac(tmp_path: Path) -> dict[str, str]:
    """Environment of a process on a Mac."""
    path = os.pathsep.join([str(SIMULATION), *filter(None, [os.environ.get("PYTHONPATH")])])
    (tmp_path / "openmp").mkdir()
    return ours() | {
        "PYTHONPATH": path,
        "MODEL_DIR": str(tmp_path / "mac"),
        "TEST_OPENMP": str(tmp_path / "openmp"),
    }


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for row in range(24):
        (folder / f"{row:02d}.png").write_bytes(png(DIGITS[row]))
    return folder


def verb(environment: dict[str, str], *arguments: object, code: int = 0) -> str:
    command = [sys.executable, "-m", "usl_backend", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout


def test_simulation__lacks_what_it_should(on_mac: dict[str, str]) -> None:
    code = (
        "import os, ctypes, multiprocessing, json\n"
        "def fails(what):\n"
        "    try: what()\n"
        "    except OSError: return True\n"
        "print(json.dumps([hasattr(os, 'sched_getaffinity'), hasattr(os, 'O_DIRECT'), hasattr(os, 'O_DIRECTORY'),\n"
        "    fails(lambda: open('/proc/mounts')), fails(lambda: ctypes.CDLL('libc.so.6')),\n"
        "    multiprocessing.get_start_method()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=on_mac, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [False, False, True, True, True, "spawn"]


def test_select_and_report__on_a_mac_are_the_same(
    tmp_path: Path, photos: Path, on_mac: dict[str, str]
) -> None:
    select = ("select", photos, "--budget", 5, "--output")
    verb(on_mac, *select, tmp_path / "mac.csv")
    verb(ours() | {"MODEL_DIR": str(tmp_path / "linux")}, *select, tmp_path / "linux.csv")
    assert (tmp_path / "mac.csv").read_bytes() == (tmp_path / "linux.csv").read_bytes()
    assert "5 picks of 24" in verb(on_mac, "report", "photos-1", "-o", tmp_path / "report.html")
    runtimes: list[dict[str, Any]] = [
        json.loads(path.read_bytes()) for path in (tmp_path / "openmp").iterdir()
    ]
    assert any("torch" in process["modules"] for process in runtimes)
    for process in runtimes:
        assert len(process["openmp"]) <= 1, process


def test_doctor__on_a_mac(tmp_path: Path, on_mac: dict[str, str]) -> None:
    told = verb(on_mac, "doctor", "--json", code=1)
    checks = {check["name"]: check["status"] for check in json.loads(told)}
    assert checks["data directory"] == checks["encoder"] == "ok"
    assert [name for name, status in checks.items() if status == "failed"] == ["Label Studio settings"]


def test_serve__on_a_mac(on_mac: dict[str, str], wait_until: Callable[..., None]) -> None:
    command = [sys.executable, "-u", "-m", "usl_backend", "serve", "--port", "0"]
    server = subprocess.Popen(command, env=on_mac, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[2].rstrip(";")
        with urllib.request.urlopen(f"{address}/livez", timeout=10) as answer:
            assert json.load(answer) == {"status": "ok"}
    finally:
        server.terminate()
        assert server.wait(60) == 0
        assert server.stdout is not None
        server.stdout.close()

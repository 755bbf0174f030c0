import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from rich.console import Console

from usl_backend.cli import main
from usl_backend.demo import dataset
from usl_backend.demo.demo import _Demo, _without_proxy, check_order, run_demo
from usl_backend.demo.place import DemoPlace
from usl_backend.errors import RunError, SettingsError, StudioError
from usl_backend.runs.lock import Lock

BUDGET = 40  # what is chosen of the demo's pictures where nobody says how many


def test_check_order__rank_order_passes() -> None:
    check_order([7, 3, 9], [7, 3, 9])


@pytest.mark.parametrize(
    ("served", "complaint"),
    [
        ([7, 9, 3], "served task 9 where task 3, pick 2, was due"),
        ([3, 7, 9], "served task 3 where task 7, pick 1, was due"),
        ([7, 3], "after 2 tasks that nothing is left, but task 9, pick 3,"),
        ([], "after 0 tasks that nothing is left"),
        ([7, 3, 9, 1], "served 4 tasks, more than the 3 picks"),
    ],
)
def test_check_order__first_difference_is_named(served: list[int], complaint: str) -> None:
    with pytest.raises(StudioError, match=complaint):
        check_order([7, 3, 9], served)


def test_run_demo__second_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    with Lock(DemoPlace(tmp_path).lock_path), pytest.raises(RunError, match=r"a demo runs in .* already"):
        run_demo(once=True, data_directory=tmp_path)


@pytest.mark.parametrize("option", ["--port", "--backend-port"])
def test_demo__a_port_that_is_none_is_refused(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for port in ("70000", "0", "-1"):
        with pytest.raises(SystemExit) as ended:
            main(["demo", option, port, "--data-directory", str(tmp_path / "demo")])
        assert ended.value.code == 2
        assert f"{port} is not in the range 1<=x<=65535" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_run_demo__an_invalid_budget_is_refused_before_servers_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="budget"):
        run_demo(once=True, data_directory=tmp_path / "demo", budget="many")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("known", [{}, {"NO_PROXY": "a.test"}, {"no_proxy": "a.test", "NO_PROXY": "b.test"}])
def test_without_proxy__own_servers_are_reached_directly(
    known: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")
    before = dict(os.environ)
    with _without_proxy():
        assert requests.utils.get_environ_proxies("http://127.0.0.1:8080/health") == {}
        assert requests.utils.get_environ_proxies("http://b.test/")["http"] == "http://proxy.test:3128"
        assert (requests.utils.get_environ_proxies("http://a.test/") == {}) == bool(known)
        assert os.environ["no_proxy"] == os.environ["NO_PROXY"]
    assert dict(os.environ) == before


class QuickReader(Console):
    """A console whose reader presses Ctrl-C on seeing that it stops both servers, before `print` returns."""

    def print(self, *objects: object, **keywords: object) -> None:
        super().print(*objects, **keywords)
        if "Ctrl-C stops both servers" in str(objects):
            raise KeyboardInterrupt


def test_wait__ctrl_c_as_soon_as_it_is_offered_is_a_regular_end(tmp_path: Path) -> None:
    with (tmp_path / "told").open("w") as told, contextlib.ExitStack() as stack:
        _Demo(DemoPlace(tmp_path / "demo"), QuickReader(file=told), stack).wait()
    assert "Stopping what the demo started" in (tmp_path / "told").read_text(encoding="utf-8")


def descendants(process_id: int) -> set[int]:
    """Every living process that comes from this one."""
    children: dict[int, set[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = status.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # pid (name) state parent ...; the name may hold anything.
        parent = int(text.rpartition(")")[2].split()[1])
        children.setdefault(parent, set()).add(int(status.parent.name))
    found: set[int] = set()
    waiting = [process_id]
    while waiting:
        new = children.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


@pytest.mark.live
@pytest.mark.timeout(900)
def test_demo__once_then_again_by_hand(tmp_path: Path) -> None:
    """The README's line, unattended and from nothing; then as a person starts it who was there before."""
    demo = [sys.executable, "-m", "usl_backend", "demo"]
    home = {**os.environ, "HOME": str(tmp_path)}
    place = tmp_path / ".local" / "share" / "usl-backend" / "demo"
    done = subprocess.run(
        [*demo, "--once"],
        env=home,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"All {BUDGET} tasks were served in the order of the picks" in done.stdout
    manifest = json.loads((place / "export" / "manifest.json").read_text(encoding="utf-8"))
    drawn = re.search(r"100 control tasks drawn and labeled, (\d+) of them picks", done.stdout)
    assert drawn, done.stdout
    labeled = BUDGET + 100 - int(drawn[1])
    assert manifest["counts"]["labeled"] == labeled
    assert manifest["counts"]["unlabeled"] == len(dataset.load().images) - labeled
    assert f"{len(dataset.load().images) - labeled:,} suggestions written" in done.stdout
    told = re.search(
        r"(\d+) % \((\d+) to (\d+) %\) of the suggestions are right, .*; in truth ([\d.]+) %", done.stdout
    )
    assert told, done.stdout
    assert int(told[2]) - 1 <= float(told[4]) <= int(told[3]) + 1
    assert "Promise: " in done.stdout
    token = json.loads((place / "demo.json").read_text(encoding="utf-8"))["token"]
    assert token not in done.stdout + done.stderr

    with subprocess.Popen(
        demo, env=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as second:
        assert second.stdout is not None
        told = ""
        for line in second.stdout:
            told += line
            if "Ctrl-C stops both servers" in line:
                break
        started = descendants(second.pid)
        second.send_signal(signal.SIGINT)
        told += second.stdout.read()
        assert second.wait(timeout=60) == 0, told
    # The picks of the first start are labeled, so the second chose others.
    assert re.search(r"Run \d+-2 chose", told), told
    assert DemoPlace(place).memory.password in told
    assert len(started) >= 2, told
    assert [pid for pid in started if Path(f"/proc/{pid}").exists() and os.getpid() != pid] == []

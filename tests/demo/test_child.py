import subprocess
import sys
import time
from pathlib import Path

import pytest

from usl_backend.demo import child

# Starts a grandchild, says both process ids, and waits; with `stubborn` neither minds SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
if sys.argv[1] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), inner.pid, flush=True)
time.sleep(600)
"""


def alive(process_id: int) -> bool:
    """Whether the process runs; one that only waits to be collected does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def family(tmp_path: Path, manner: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    log = tmp_path / "log"
    process = child.spawn([sys.executable, "-c", FAMILY, manner], environment={"PATH": ""}, log_path=log)
    until = time.monotonic() + 30
    while not log.read_text().endswith("\n"):
        assert time.monotonic() < until
        time.sleep(0.02)
    return process, [int(number) for number in log.read_text().split()]


@pytest.mark.parametrize("manner", ["polite", "stubborn"])
def test_stop__ends_the_whole_family_and_nobody_else(
    tmp_path: Path, manner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "PATIENCE", 1.0)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as bystander:
        process, members = family(tmp_path, manner)
        assert all(alive(member) for member in members)
        child.stop(process, name="the family")
        until = time.monotonic() + 10
        while any(alive(member) for member in members):
            assert time.monotonic() < until
            time.sleep(0.02)
        assert bystander.poll() is None
        bystander.kill()


def test_stop__of_one_that_ended_by_itself_is_harmless(tmp_path: Path) -> None:
    process = child.spawn([sys.executable, "-c", ""], environment={}, log_path=tmp_path / "log")
    process.wait(timeout=30)
    child.stop(process, name="nothing")
    assert process.returncode == 0


def test_spawn__log_takes_output_and_errors_and_begins_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("of the last start\n")
    code = "import os, sys; print(os.getcwd(), flush=True); print(sys.stdin.read() == '', file=sys.stderr)"
    child.spawn([sys.executable, "-c", code], environment={}, log_path=log).wait(timeout=30)
    assert log.read_text().splitlines() == [str(tmp_path), "True"]


def test_tail__last_lines_or_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert child.tail(log) == ""
    log.write_bytes(b"one\ntwo\n\xff three\n")
    assert child.tail(log, 2) == "two\n\N{REPLACEMENT CHARACTER} three"

"""The browser tests use any browser there is; where there is none, the run says so, or fails when they are demanded."""

import os
import subprocess
import sys
from pathlib import Path

import chromium
import pytest

ROOT = Path(__file__).parent.parent
PLAYED = "tests/browser/test_cross_site.py"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a browser; its only folder of programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (chromium.VARIABLE, "PLAYWRIGHT_BROWSERS_PATH"):
        monkeypatch.delenv(name, raising=False)
    return folder


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_find_chromium__none(bare: Path) -> None:
    assert chromium.find_chromium() is None


@pytest.mark.parametrize("name", chromium.NAMES)
def test_find_chromium__any_name_in_path(bare: Path, name: str) -> None:
    browser = program(bare / name)
    assert chromium.find_chromium() == browser


@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "chromium-1187/chrome-linux/chrome",
        "chromium-1187/chrome-linux64/chrome",
        "chromium_headless_shell-1187/chrome-linux/headless_shell",
        "chromium_headless_shell-1187/chrome-headless-shell-linux64/chrome-headless-shell",
    ],
)
def test_find_chromium__the_newest_build_of_playwright(
    bare: Path, monkeypatch: pytest.MonkeyPatch, name: str, elsewhere: bool
) -> None:
    folder = bare.parent / ".cache" / "ms-playwright"
    if elsewhere:
        folder = bare.parent / "builds"
        monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(folder))
    program(folder / name.replace("1187", "999"))
    newest = program(folder / name)
    assert chromium.find_chromium() == newest
    newest.chmod(0o644)
    assert chromium.find_chromium() == folder / name.replace("1187", "999")


def test_find_chromium__the_named_one_before_all(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare / "chromium")
    monkeypatch.setenv(chromium.VARIABLE, str(program(bare / "my-browser")))
    assert chromium.find_chromium() == bare / "my-browser"
    monkeypatch.setenv(chromium.VARIABLE, "brave")
    with pytest.raises(FileNotFoundError, match="TEST_BROWSER is brave"):
        chromium.find_chromium()


def run_without_browser(bare: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, PLAYED]
    environment = {**os.environ, "PATH": str(bare), "HOME": str(bare.parent), "PYTEST_ADDOPTS": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_run__without_a_browser_says_last_what_was_left_out(bare: Path, workers: str) -> None:
    done = run_without_browser(bare, "-n", workers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 skipped" in done.stdout
    assert done.stdout.splitlines()[-1] == (
        "6 browser tests were LEFT OUT: no Chromium or Chrome was found. This brings one: " + chromium.REMEDY
    )


def test_run__that_demands_browser_tests_fails_without_a_browser(bare: Path) -> None:
    done = run_without_browser(bare, "-n", "0", "--require-browser")
    assert done.returncode == 1
    assert "6 errors" in done.stdout
    assert chromium.REMEDY in done.stdout
    assert "LEFT OUT" not in done.stdout

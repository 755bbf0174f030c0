import json
from collections.abc import Callable
from pathlib import Path

import pytest
from digit_run import Made

from usl_backend.cli import main

Told = Callable[..., tuple[int, str, str]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    def tell(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        written = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, written.out, written.err

    return tell


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    return Made(tmp_path, 90, budget=6)


def test_report__says_what_the_picks_are_worth(made: Made, told: Told) -> None:
    code, out, err = told("report", "12-1")
    assert code == 0
    assert out.startswith("run 12-1: 6 picks of 90 tasks, worth more than random ones: they cover ")
    assert "coverage ..." in err


def test_report__json_holds_the_figures_of_the_file(made: Made, told: Told, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    code, out, err = told("report", "12-1", "-o", str(path), "--json")
    assert (code, err) == (0, "")
    figures = json.loads(out)
    assert figures["file"] == str(path)
    assert (figures["instances"], figures["picks"], figures["verdict"]) == (90, 6, "clear")
    page = path.read_text(encoding="utf-8")
    assert f"{100 * figures['coverage']:.1f} %" in page
    # without a token no picture can be had, and it is said
    assert figures["pictures_missing"] > 20


def test_report__unknown_run(made: Made, told: Told) -> None:
    code, _, err = told("report", "99-1")
    assert code == 1
    assert "99-1" in err


def test_report__a_run_that_is_not_done(made: Made, told: Told) -> None:
    made.store.create(project=13, settings={})
    code, _, err = told("report", "13-1")
    assert code == 1
    assert "run 13-1 is queued; its report can be computed once it is done" in err


def test_report__a_folder_that_is_not_there(made: Made, told: Told, tmp_path: Path) -> None:
    code, _, err = told("report", "12-1", "-o", str(tmp_path / "none" / "report.html"))
    assert code == 1
    assert "none does not exist; create it first" in err


def test_report__a_file_that_cannot_be_written(made: Made, told: Told, tmp_path: Path) -> None:
    code, _, err = told("report", "12-1", "-o", str(tmp_path / f"{'x' * 300}.html"))
    assert code == 1
    assert "x.html cannot be written (File name too long); choose another file" in err

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from usl_backend import cli
from usl_backend.cli import HIDDEN, VERBS, app, main
from usl_backend.errors import RunError
from usl_backend.settings import OPTIONS
from usl_backend.version import VERSION


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("USL_") or name in {option.environment for option in OPTIONS}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "data"))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert isinstance(left.value.code, int)
    return left.value.code


def commands() -> dict[str, click.Command]:
    context = click.Context(app)
    found = {verb: app.get_command(context, verb) for verb in VERBS}
    return {verb: command for verb, command in found.items() if command is not None}


def test_app__every_verb_has_a_command_of_its_name_and_help() -> None:
    found = commands()
    assert {verb: command.name for verb, command in found.items()} == {verb: verb for verb in VERBS}
    assert all(command.help for command in found.values())
    assert {verb for verb, command in found.items() if command.hidden} == set(HIDDEN)


def test_app__every_option_has_its_flag_and_no_secret_has_one() -> None:
    flags = {
        flag
        for command in commands().values()
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {option.flag for option in OPTIONS if not option.secret} <= flags
    assert not {option.flag for option in OPTIONS if option.secret} & flags


def test_app__select_takes_every_run_and_method_option() -> None:
    flags = {flag for parameter in commands()["select"].params for flag in parameter.opts}
    assert {option.flag for option in OPTIONS if option.scope != "host"} <= flags


def test_main__help_loads_no_verb_and_no_library() -> None:
    code = (
        "import sys\nfrom usl_backend.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'flask', 'numpy', 'pydantic', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for verb in VERBS:
        assert (f"  {verb} " in done.stdout) == (verb not in HIDDEN)


def test_main__without_flock_names_the_systems_that_it_runs_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr("platform.system", lambda: "Windows")
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    assert left.value.code == 1
    assert capsys.readouterr().err == (
        "error: usl-backend runs on Linux and macOS, and this is Windows; on Windows install it in WSL "
        "(`wsl --install`, then as on Linux)\n"
    )


@pytest.mark.parametrize("verb", VERBS)
def test_main__help_of_a_verb_loads_no_network_library(verb: str) -> None:
    code = (
        "import sys\nfrom usl_backend.cli import main\n"
        f"try: main(['{verb}', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'torchvision', 'flask', 'label_studio_sdk'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout.startswith(f"Usage: usl-backend {verb}")


def test_main__version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == f"usl-backend, version {VERSION}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frob"], 'error: "frob" is no command; '),
        (["selct", "12"], 'error: "selct" is no command; did you mean "select"? (see usl-backend --help)'),
        (["export", "nothere", "--check"], "error: there is no directory 'nothere'; give that of an export"),
        (["select"], "error: Missing argument 'TARGET'. (see usl-backend select --help)"),
        (["select", "12", "--budgte", "3"], "error: No such option"),  # click's words differ by its version
        (["select", "12", "--seed", "x"], "error: Invalid value for '--seed': 'x' is not a valid integer. (see"),
        (["gc", "--keep", "0"], "error: Invalid value for '--keep': 0 is not in the range x>=1. (see"),
    ],
)  # fmt: skip
def test_main__wrong_usage_is_one_line_and_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    told = capsys.readouterr()
    assert told.err.startswith(said)
    assert told.err.count("\n") == 1
    assert told.out == ""


@pytest.mark.parametrize("budget", ["0", "-3", "ten", "101%", "2.5", "0/class", "nan"])
def test_select__impossible_budget_is_wrong_usage(budget: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("select", "12", f"--budget={budget}") == 2
    assert capsys.readouterr().err == (
        f'error: budget is "{budget}"; give a positive number, a share such as "5%", or "4/class"\n'
    )


def test_select__misspelt_variable_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USL_BUGDET", "3")
    assert run("select", "12") == 2
    assert 'unknown environment variable "USL_BUGDET"; did you mean "USL_BUDGET"?' in capsys.readouterr().err


def test_select__missing_manifest_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("select", "nowhere/list.parquet") == 1
    assert capsys.readouterr().err.startswith(
        "error: nowhere/list.parquet is neither a project nor a file or folder here; TARGET is a project, or "
    )


@pytest.mark.parametrize("target", ["twelve", "12-7", "http://localhost:8080/user/account", "0x12", ""])
def test_select__what_is_no_project_is_named(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("select", target) == 1
    named = target or '""'
    assert capsys.readouterr().err.startswith(f"error: {named} is neither a project nor a ")


def test_select__missing_token_says_where_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("select", "12") == 2
    assert capsys.readouterr().err.startswith(
        "error: LABEL_STUDIO_API_KEY is not set; create a personal access token"
    )


def test_select__token_never_goes_to_another_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "a" * 40)
    assert run("select", "http://elsewhere.example/projects/12") == 1
    assert "set LABEL_STUDIO_URL=http://elsewhere.example" in capsys.readouterr().err


@pytest.mark.parametrize("debug", [False, True])
def test_main__unforeseen_error_shows_a_trace_only_to_who_asks(
    debug: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("usl_backend.cli.runs.host_settings", broken)
    if debug:
        with pytest.raises(ZeroDivisionError):
            main(["--debug", "status"])
        return
    assert run("status") == 1
    assert capsys.readouterr().err == (
        "error: unexpected ZeroDivisionError: first line; run again with `usl-backend --debug ...` for the details\n"
    )


def test_main__interrupt_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("usl_backend.cli.runs.host_settings", interrupted)
    assert run("status") == 1
    assert capsys.readouterr().err.strip() == "error: interrupted"


def test_main__reader_of_a_pipe_may_leave(tmp_path: Path) -> None:
    """`usl-backend select --help | head -1` must not end in a trace."""
    command = f"{sys.executable} -m usl_backend select --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_one_line__our_own_errors_are_told_as_they_are() -> None:
    assert cli._one_line(RunError("run 12-7 is done")) == "run 12-7 is done"


def test_main__runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "usl_backend", "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(rf"usl-backend, version {re.escape(VERSION)}\n", done.stdout)

import re

import click
import pytest
from click.testing import CliRunner

from usl_backend.cli import VERBS, app
from usl_backend.settings import OPTIONS

SCREENS = 80
"""Lines that the help of any verb may take in a terminal of 80 columns: about two screens."""
METHOD = {option.flag for option in OPTIONS if option.scope == "method"}
RUN = {option.flag for option in OPTIONS if option.scope == "run"}


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments], terminal_width=80, prog_name="usl-backend")
    assert done.exit_code == 0, done.output
    return done.output


def flags(text: str) -> set[str]:
    """Flags that have a line of their own."""
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE))


def command(verb: str) -> click.Command:
    found = app.get_command(click.Context(app), verb)
    assert found is not None
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_help__fits_two_screens(verb: str) -> None:
    assert shown(verb, "--help").count("\n") <= SCREENS


@pytest.mark.parametrize("verb", ["select", "connect"])
def test_help__names_run_settings_and_leaves_method_options_to_help_all(verb: str) -> None:
    usual, everything = flags(shown(verb, "--help")), flags(shown(verb, "--help-all"))
    assert RUN - usual == {"--preset", "--engine", "--precision"}
    assert not usual & METHOD
    assert everything >= RUN | METHOD
    assert "--media-timeout" in everything - usual


@pytest.mark.parametrize("verb", ["select", "serve", "doctor"])
def test_help__says_how_many_options_it_leaves_out(verb: str) -> None:
    usual = shown(verb, "--help")
    left = flags(shown(verb, "--help-all")) - flags(usual)
    assert usual.endswith(f"\n{len(left)} more options: usl-backend {verb} --help-all\n")


def test_help__groups_stand_in_order() -> None:
    headings = re.findall(r"^(\w[\w ]+):$", shown("select", "--help-all"), re.MULTILINE)
    assert headings == [
        "Options",
        "Selection",
        "Embedding",
        "Engine",
        "Pools outside Label Studio",
        "Method",
        "This host",
        "Media",
    ]


def test_help_all__is_offered_only_where_help_leaves_something_out() -> None:
    assert "--help-all" not in shown("status", "--help")
    assert "more options" not in shown("status", "--help")
    assert CliRunner().invoke(app, ["status", "--help-all"]).exit_code == 2


def test_select__takes_what_help_leaves_out() -> None:
    context = command("select").make_context("select", ["12", "--rounds", "7", "--media-timeout", "3"])
    assert (context.params["rounds"], context.params["media_timeout"]) == (7, 3.0)

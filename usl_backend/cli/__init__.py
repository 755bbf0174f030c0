"""The command line's front: verbs, exit codes and errors. Each verb is in a file of its own, loaded when it is used.

Exit codes: 0 done, 1 failed, 2 wrong usage. An error is one line on stderr, never a stack trace.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from usl_backend.errors import SettingsError, USLError
from usl_backend.version import VERSION

VERBS = {
    "demo": ("service", "Try it: a real Label Studio with real pictures, connected and selected."),
    "serve": ("service", "Run the ML backend that Label Studio connects to."),
    "connect": ("service", "Connect this backend to a project, as the UI does."),
    "select": ("select", "Choose which tasks of a project, or which files, come first."),
    "status": ("runs", "Show runs, or one run."),
    "cancel": ("runs", "Stop a run."),
    "resume": ("select", "Go on with a run that failed, was cancelled or died."),
    "extend": ("extend", "Queue a project's new tasks behind the picks, without a new run."),
    "report": ("report", "Show whether a run's picks can be trusted, and write its report."),
    "export": ("results", "Write the labeled and unlabeled tasks of a project."),
    "evaluate": ("evaluate", "Replay selections on labeled data: what would chosen labels have been worth?"),
    "reset": ("results", "Put a project's sampling, tab and predictions back."),
    "doctor": ("service", "Check what a run needs, and say what to do."),
    "gc": ("runs", "Remove what old runs left on disk."),
    "work": ("work", "Compute a run in this process; used by the server."),
}
"""Verb -> file and short help, so that listing them loads none of the files."""
HIDDEN = frozenset({"work"})


class _Verbs(click.Group):
    """Loads a verb's file when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [verb for verb in VERBS if verb not in HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module = import_module(f"usl_backend.cli.{VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, VERBS[verb][1]) for verb in self.list_commands(ctx)])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="usl-backend")
@click.option("--debug", is_flag=True, help="Log every step and show stack traces.")
def app(debug: bool) -> None:
    """Decide which tasks people should label first."""
    handler = logging.StreamHandler()
    # What goes wrong reaches the user as one line of the verb itself, not as a log line beside it.
    handler.setLevel(logging.DEBUG if debug else logging.CRITICAL)
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[handler],
    )
    if debug:
        # only now: it knows all settings, and loading them takes half a second
        from usl_backend.jobs.logs import TextFormatter
        from usl_backend.jobs.redaction import secrets_in_environment

        handler.setFormatter(TextFormatter(secrets_in_environment()))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with 0 (done), 1 (failed) or 2 (wrong usage).

    Parameters
    ----------
    arguments
        Without the program's name; None reads them from the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = app.main(given, prog_name="usl-backend", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.UsageError as error:
        where = f" (see {error.ctx.command_path} --help)" if error.ctx is not None else ""
        click.echo(f"error: {error.format_message()}{where}", err=True)
        code = 2
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("error: interrupted", err=True)
        code = 1
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        code = error.exit_code
    except BrokenPipeError:
        # The reader of a pipe left; what stdout still holds must not raise once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # whatever went wrong, the user gets one line
        if "--debug" in given:
            raise
        click.echo(f"error: {_one_line(error)}", err=True)
        code = 2 if isinstance(error, SettingsError) else 1
    sys.exit(code)


def _one_line(error: Exception) -> str:
    """What went wrong, without a stack trace."""
    if isinstance(error, USLError):
        return str(error)
    text = str(error).partition("\n")[0]
    return (
        f"unexpected {type(error).__name__}: {text}; run again with `usl-backend --debug ...` for the details"
    )

"""Command line: verbs, exit codes and errors. Each verb's file is loaded when the verb is used.

Exit codes: 0 done, 1 failed, 2 wrong usage. An error is one line on stderr, never a stack trace.
"""

from __future__ import annotations

import io
import logging
import os
import platform
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

import click

from usl_backend.errors import SettingsError, USLError, nearest_name
from usl_backend.version import VERSION

VERBS = {
    "demo": ("service", "Try it: a local Label Studio with real data, connected to this backend."),
    "serve": ("service", "Run the ML backend that Label Studio connects to."),
    "connect": ("service", "Connect this backend to a project, as the UI does."),
    "select": ("select", "Choose which tasks of a project, or which files, to label first."),
    "status": ("runs", "Show runs, or one run."),
    "cancel": ("runs", "Stop a run."),
    "resume": ("select", "Continue a run that failed, was cancelled or was interrupted."),
    "publish": ("publish", "Put the queue of a finished run in force again."),
    "extend": ("extend", "Queue a project's new tasks after the picks, without a new run."),
    "queue": ("steer", "Queue tasks behind the picks."),
    "like": ("steer", "Queue the tasks most like one."),
    "pin": ("steer", "Have every new run pick certain tasks."),
    "exclude": ("steer", "Have no new run queue certain tasks."),
    "control": ("control", "Draw tasks to measure accuracy on, after a run."),
    "suggest": ("suggest", "Suggest a class for every task that has none, from the labels that are there."),
    "accuracy": ("accuracy", "Say how many suggestions are right, and whether to stop labeling."),
    "doubts": ("doubts", "List labels that look wrong."),
    "report": ("report", "Compare a run's picks with random ones, and write its report."),
    "compare": ("compare", "Compare two runs over one project or pool."),
    "export": ("results", "Write the labeled and unlabeled tasks of a project to files."),
    "evaluate": ("evaluate", "Compare methods with random selection on labeled data."),
    "reset": ("results", "Restore a project's sampling, tab and predictions."),
    "encoders": ("encoders", "List the encoders of this host; `encoders pull NAME` downloads weights."),
    "doctor": ("service", "Check the requirements of a run, and suggest remedies."),
    "gc": ("runs", "Remove the files of old runs."),
    "work": ("work", "Compute a run in this process; used by the server."),
}
"""File and short help by verb, so that listing the verbs loads none of the files."""
HIDDEN = frozenset({"work"})


class _Verbs(click.Group):
    """Group that loads a verb's file when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [verb for verb in VERBS if verb not in HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            ctx.fail(f'"{cmd_name}" is no command; {nearest_name(cmd_name, self.list_commands(ctx))}')
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
    # Errors are printed by `main` as one line, not repeated as log lines.
    handler.setLevel(logging.DEBUG if debug else logging.CRITICAL)
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[handler],
    )
    if debug:
        # Imported only now: it loads all settings, which takes half a second.
        from usl_backend.jobs.logs import TextFormatter
        from usl_backend.jobs.redaction import secrets_in_environment

        handler.setFormatter(TextFormatter(secrets_in_environment()))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with 0 (done), 1 (failed) or 2 (wrong usage).

    Parameters
    ----------
    arguments
        Arguments without the program's name; None reads those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # File names may not be UTF-8, and the terminal may not be either.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if find_spec("fcntl") is None:
        # Locks of runs and of the data directory are flocks, which Windows does not have.
        click.echo(
            f"error: usl-backend runs on Linux and macOS, and this is {platform.system()}; on Windows install it in "
            "WSL (`wsl --install`, then as on Linux)",
            err=True,
        )
        sys.exit(1)
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
        # The reader of the pipe is gone; flushing stdout at exit must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:  # one line for the user, whatever the error
        if "--debug" in given:
            raise
        click.echo(f"error: {_one_line(error)}", err=True)
        code = 2 if isinstance(error, SettingsError) else 1
    sys.exit(code)


def _one_line(error: Exception) -> str:
    """Describe an error without a stack trace."""
    if isinstance(error, USLError):
        return str(error)
    text = str(error).partition("\n")[0]
    return (
        f"unexpected {type(error).__name__}: {text}; run again with `usl-backend --debug ...` for the details"
    )

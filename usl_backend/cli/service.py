"""`demo`, `serve`, `connect` and `doctor`: the backend and its connection to Label Studio."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usl_backend.cli.options import (
    DATA,
    MEDIA,
    STUDIO,
    host_options,
    host_settings,
    json_option,
    run_options,
    split,
)
from usl_backend.cli.verb import Verb

if TYPE_CHECKING:
    from usl_backend.doctor import Check

ADDRESS = ("basic_auth_user", "host", "port", "public_url")
_COLORS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command()
@click.option(
    "--data",
    type=click.Choice(["images", "text"]),
    default="images",
    show_default=True,
    help="Data set: pictures of Fashion-MNIST, or descriptions of Debian packages.",
)
@click.option(
    "--once", is_flag=True, help="Run unattended: select, annotate, suggest, export, print a summary, exit."
)
@click.option(
    "--data-directory", type=click.Path(path_type=Path), help="Directory for the demo's Label Studio."
)
@click.option("--port", type=click.IntRange(1, 65535), help="Port of Label Studio. Default: a free one.")
@click.option(
    "--backend-port", type=click.IntRange(1, 65535), help="Port of the backend. Default: a free one."
)
@click.option("--budget", help="Number of tasks to choose.")
def demo(**options: Any) -> None:
    """Try it: start a local Label Studio with real data, connect this backend and select."""
    from usl_backend.demo.demo import run_demo

    click.get_current_context().exit(run_demo(**options))


@click.command(cls=Verb)
@host_options(
    *ADDRESS,
    "pages_url",
    "max_running",
    "ray_address",
    "log_format",
    "keep_runs",
    "cache_max_bytes",
    *STUDIO,
    *DATA,
    *MEDIA,
)
def serve(**flags: Any) -> None:
    """Run the ML backend that Label Studio connects to, until Ctrl-C."""
    from usl_backend.jobs.logs import log_to_stderr
    from usl_backend.web import serve as serve_web

    host = host_settings(flags)
    log_to_stderr(host)

    def ready(address: str) -> None:
        click.echo(
            f"listening on {address}; connect it in Label Studio (Settings > Model) or by `usl-backend connect`"
        )
        click.echo(f"the pages of its runs are at {host.pages_url or address}/usl/")

    serve_web(host, ready=ready)


@click.command(cls=Verb)
@click.argument("target")
@json_option
@run_options
@host_options(*ADDRESS, *STUDIO, *DATA, *MEDIA)
def connect(target: str, as_json: bool, **flags: Any) -> None:
    """Connect the running backend to a project, as Settings > Model > Connect Model does.

    Run options given here, such as --budget 100, become the project's extra params, which its runs use.
    """
    from usl_backend import doctor as clinic
    from usl_backend.settings import check_extra_params
    from usl_backend.studio.target import parse_target

    url, project = parse_target(target)
    host, (_, extra_params) = host_settings(flags), split(flags)
    check_extra_params(extra_params)
    _print_checks(
        clinic.connect(host, project, extra_params=extra_params or None, studio_url=url), as_json=as_json
    )


@click.command(cls=Verb)
@click.argument("target", required=False)
@json_option
@host_options(*ADDRESS, *STUDIO, *DATA, *MEDIA)
def doctor(target: str | None, as_json: bool, **flags: Any) -> None:
    """Check the requirements of a run, with or without a project, and suggest remedies."""
    from usl_backend.doctor import diagnose
    from usl_backend.studio.target import parse_target

    url, project = (None, None) if target is None else parse_target(target)
    _print_checks(diagnose(host_settings(flags), project, studio_url=url), as_json=as_json)


def _print_checks(checks: list[Check], *, as_json: bool) -> None:
    """Print a line per check and its remedy below; exit with 1 if a check failed."""
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        for check in checks:
            click.echo(
                f"{click.style(f'{check.status:<8}', fg=_COLORS[check.status])} {check.name}: {check.detail}"
            )
            if check.remedy:
                click.echo(f"         -> {check.remedy}")
    if any(check.status == "failed" for check in checks):
        click.get_current_context().exit(1)

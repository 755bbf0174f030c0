"""`report`: compute a run's report, print its main figures and write it as one file."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from usl_backend.cli.options import DATA, MEDIA, STUDIO, host_options, host_settings, json_option, open_store
from usl_backend.cli.verb import Verb


@click.command(cls=Verb)
@click.argument("run_id")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="HTML file to write the report to; it includes the pictures and needs no server or network.",
)
@click.option("--force", is_flag=True, help="Compute the report again.")
@json_option
@host_options(*DATA, *STUDIO, *MEDIA)
def report(run_id: str, output: Path | None, force: bool, as_json: bool, **flags: Any) -> None:
    """Compare a run's picks with random ones, and write its report."""
    from usl_backend.errors import USLError
    from usl_backend.report import build, write_report
    from usl_backend.report.check import ControlCheck, TooFew, check_run, control_set
    from usl_backend.runs.artifacts import check_folder
    from usl_backend.sources.media import open_run_media
    from usl_backend.studio.client import StudioClient

    if output is not None:
        check_folder(output)
    host = host_settings(flags)
    store = open_store(host)
    run = store.get(run_id)
    files = store.files(run_id)

    def show_step(step: str, _done: int, _total: int, /) -> None:
        if not as_json:
            click.echo(f"{step} ...", err=True)

    found = build(run, files, force=force, progress=show_step)
    checked: ControlCheck | TooFew | None = None
    if control_set(files) and host.api_key and not run.pool:
        with StudioClient.from_settings(host) as client:
            try:
                checked = check_run(files, found, client, project=run.project, seed=int(run.settings["seed"]))
            except USLError as error:
                # The report itself needs no labels.
                click.echo(f"warning: the labels of the control set cannot be read: {error}", err=True)
    missing = 0
    if output is not None:
        # Without a token, the file is written with the thumbnails that are already there.
        within_reach = not files.read_inventory().brings_vectors if run.pool else bool(host.api_key)
        with open_run_media(host, files) if within_reach else nullcontext(None) as media:
            read = None if media is None else media.read
            missing = write_report(run, files, found, output, read=read, studio_url=host.browser_url)
    trust = found.trust
    if as_json:
        result = {
            "run": run.id,
            "instances": found.instances,
            "picks": len(found.whys),
            "verdict": trust.verdict,
            "coverage": trust.picks[-1],
            "coverage_random": trust.random_mean[-1],
            "matched": trust.matched,
            "effective_clusters": trust.effective_clusters,
            "near_duplicate_share": trust.near_duplicate_share,
            "labels": asdict(checked) if isinstance(checked, ControlCheck) else None,
            "labels_missing": (
                {"control": checked.missing_controls, "picks": checked.missing_picks}
                if isinstance(checked, TooFew)
                else None
            ),
            "file": None if output is None else str(output),
            "pictures_missing": missing,
        }
        click.echo(json.dumps(result, indent=1))
        return
    words = {"clear": "worth more than", "small": "hardly worth more than", "none": "worth no more than"}
    click.echo(
        f"run {run.id}: {len(found.whys)} picks of {found.instances:,} tasks, {words[trust.verdict]} random ones: "
        f"they cover {trust.picks[-1]:.1%} of the pool, the same number of random ones {trust.random_mean[-1]:.1%}"
    )
    if trust.matched is not None and trust.matched < len(found.whys):
        click.echo(f"the first {trust.matched} cover as much as {len(found.whys)} random tasks")
    if isinstance(checked, ControlCheck):
        click.echo(
            f"with {checked.size} labels each, picks classify {checked.picks_accuracy:.0%} of the control set "
            f"correctly, random tasks {checked.random_accuracy:.0%}; all {checked.picks} labeled picks "
            f"{checked.accuracy:.0%} "
            f"({checked.low:.0%} to {checked.high:.0%})"
        )
    elif checked is not None:
        click.echo(str(checked))
    if output is not None:
        click.echo(f"written to {output}" + (f"; {missing} pictures could not be read" if missing else ""))

"""`report`: compute a run's report, show its main figures, write it as one file. The computing is `report/`."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from usl_backend.cli.options import DATA, MEDIA, STUDIO, host_options, host_settings, json_option


@click.command()
@click.argument("run_id")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report to this HTML file, pictures inside; it needs no server and no network.",
)
@click.option("--force", is_flag=True, help="Compute it again.")
@json_option
@host_options(*DATA, *STUDIO, *MEDIA)
def report(run_id: str, output: Path | None, force: bool, as_json: bool, **flags: Any) -> None:
    """Show whether a run's picks can be trusted, and write its report."""
    from usl_backend.report import build, write_report
    from usl_backend.report.sources import open_media
    from usl_backend.runs import RunStore

    host = host_settings(flags)
    store = RunStore(host.model_dir)
    run = store.get(run_id)
    files = store.files(run_id)
    said = (lambda _step: None) if as_json else (lambda step: click.echo(f"{step} ...", err=True))
    found = build(run, files, force=force, progress=said)
    missing = 0
    if output is not None:
        # without a token the file is written with the thumbnails that are there
        media = open_media(host) if host.api_key else nullcontext(None)
        with media as read:
            missing = write_report(run, files, found, output, read=read, studio_url=host.label_studio_url)
    trust = found.trust
    if as_json:
        told = {
            "run": run.id,
            "instances": found.instances,
            "picks": len(found.whys),
            "verdict": trust.verdict,
            "coverage": trust.picks[-1],
            "coverage_random": trust.random_mean[-1],
            "matched": trust.matched,
            "effective_clusters": trust.effective_clusters,
            "near_duplicate_share": trust.near_duplicate_share,
            "file": None if output is None else str(output),
            "pictures_missing": missing,
        }
        click.echo(json.dumps(told, indent=1))
        return
    words = {"clear": "worth more than", "small": "hardly worth more than", "none": "worth no more than"}
    click.echo(
        f"run {run.id}: {len(found.whys)} picks of {found.instances:,} tasks, {words[trust.verdict]} random ones: "
        f"they cover {trust.picks[-1]:.1%} of the pool, as many random ones {trust.random_mean[-1]:.1%}"
    )
    if trust.matched is not None and trust.matched < len(found.whys):
        click.echo(f"after pick {trust.matched} they cover what {len(found.whys)} random tasks cover")
    if output is not None:
        click.echo(f"written to {output}" + (f"; {missing} pictures could not be had" if missing else ""))

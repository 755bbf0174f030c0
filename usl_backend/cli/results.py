"""`export` and `reset`: write a project's labels to files, and restore the project."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usl_backend.cli.options import DATA, MEDIA, STUDIO, host_options, host_settings, json_option, open_store
from usl_backend.cli.select import bars
from usl_backend.cli.verb import Verb
from usl_backend.errors import RunError
from usl_backend.exports import FORMATS
from usl_backend.instances import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usl_backend.exports.media import Media
    from usl_backend.runs import RunStore
    from usl_backend.settings import HostSettings
    from usl_backend.studio.reset import ResetReport


@click.command(cls=Verb)
@click.argument("target")
@click.option("--format", "format_name", type=click.Choice(list(FORMATS)), default="json", show_default=True)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Directory to create. Default: export-RUN."
)
@click.option(
    "--media",
    type=click.Choice(["copy", "link", "none"]),
    help="Copy the media files, link them (hard links if possible, else symbolic; files that are not on this host are "
    "copied), or only list them. Default: as the format requires.",
)
@click.option(
    "--check", is_flag=True, help="Load the export as a training script would; TARGET may be a directory."
)
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@click.option("--include-labeled", is_flag=True, help="Include the labeled rows in the unlabeled set.")
@click.option("--control", help="Choices tag to read, if the label config has several.")
@click.option(
    "--suggested",
    is_flag=True,
    help="Write suggested classes and their confidences too, apart from the labels that people gave.",
)
@click.option(
    "--min-confidence",
    type=float,
    metavar="SHARE",
    help="Suggestions at least as sure, such as 0.9; needs a labeled control set.",
)
@json_option
@host_options(*STUDIO, *DATA, *MEDIA)
def export(
    target: str,
    format_name: str,
    output: Path | None,
    media: Media | None,
    check: bool,
    force: bool,
    include_labeled: bool,
    control: str | None,
    suggested: bool,
    min_confidence: float | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Write the labeled and unlabeled tasks of a project (12: its newest completed run) or a run (12-7) to files.

    With --check and a directory as TARGET, an earlier export is loaded as a training script would, and nothing is
    written.
    """
    from usl_backend.exports import check_export, export_split, read_manifest
    from usl_backend.exports.media import files_of
    from usl_backend.exports.project import exported_run, project_split, refuse_unlabeled
    from usl_backend.exports.suggested import suggested_split
    from usl_backend.exports.write import check_suggested
    from usl_backend.sources.media import MediaAccess
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target

    if check and Path(target).is_dir():
        _report_check(Path(target), as_json=as_json)
        return
    if check and not (RUN_ID.fullmatch(target) or target.isdecimal() or "://" in target):
        raise click.UsageError(
            f"there is no directory {target!r}; give that of an export, a project or a run"
        )
    if suggested:
        check_suggested(format_name)
    elif min_confidence is not None:
        raise click.UsageError("--min-confidence is about suggestions; give --suggested too")
    host = host_settings(flags)
    store = open_store(host)
    url, project_id = (None, None) if "-" in target and "/" not in target else parse_target(target)
    run = store.get(target) if project_id is None else exported_run(store, project_id)
    refuse_unlabeled(run)
    with StudioClient.from_settings(host, url=url) as client:
        split = project_split(store, run, client=client, control=control, include_labeled=include_labeled)
        if suggested:
            split = suggested_split(
                split,
                run,
                store=store,
                host=host,
                client=client,
                control=control,
                min_confidence=min_confidence,
            )
        files = store.files(run.id)
        with MediaAccess.of_run(host, files, client).open(client) as media_files:
            directory = export_split(
                split,
                output or Path(f"export-{run.id}"),
                format=format_name,
                media=media,
                fetch=files_of(media_files, files.read_inventory()),
                force=force,
            )
    if check:
        check_export(directory)
    if as_json:
        manifest = read_manifest(directory)
        result = {
            "directory": str(directory),
            "run": run.id,
            "counts": manifest["counts"],
            "missing": manifest["media"]["missing"],
            "checked": check,
            "suggested": manifest.get("suggested"),
        }
        click.echo(json.dumps(result))
        return
    for line in _lines(directory, read_manifest(directory)):
        click.echo(line)
    if check:
        click.echo(f"checked: the {format_name} export loads without errors")


def _lines(directory: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Return the lines about a written export, for people."""
    written, counts, missing = manifest["contents"], manifest["counts"], manifest["media"]["missing"]
    yield (
        f"{directory}: {written['labeled']} labeled and {written['unlabeled']} unlabeled tasks of run {manifest['run']}"
    )
    if told := manifest.get("suggested"):
        yield f"{written['suggested']} suggested, {told['accepted']} of them accepted: {told['promise']['says']}"
    if not written["labeled"]:
        yield "nothing is labeled yet; label some tasks and export again"
    for name in ("conflicts", "skipped", "empty", "unreadable", "deleted"):
        if counts[name]:
            yield f"{name}: {counts[name]} (see {directory / 'manifest.json'})"
    for label, count in manifest["retired_classes"].items():
        yield f"{count} tasks have the class {label!r}, which the label config no longer has; it comes last"
    if missing:
        yield f"left out because their files cannot be read: {len(missing)} (see {directory / 'manifest.json'})"


def _report_check(directory: Path, *, as_json: bool) -> None:
    """Load an export and print its counts."""
    from usl_backend.exports import check_export

    found = check_export(directory)
    if as_json:
        click.echo(json.dumps({"directory": str(directory), **asdict(found)}))
        return
    click.echo(
        f"{directory}: {found.format}, {found.labeled} labeled and {found.unlabeled} unlabeled rows, ok"
    )
    for name, count in found.per_class.items():
        click.echo(f"{count:7d}  {name}")


@click.command(cls=Verb)
@click.argument("target")
@json_option
@host_options(*STUDIO, *DATA)
def reset(target: str, as_json: bool, **flags: Any) -> None:
    """Restore a project's sampling, model version, tab and predictions to their state before the first run.

    For a run that was imported into a project (photos-3), the tasks it created are deleted too, unless they have been
    labeled. Anything that was changed after the run is left as it is and listed.
    """
    from usl_backend.sinks.restoring import restore
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target

    host = host_settings(flags)
    store = open_store(host)
    if (named := RUN_ID.fullmatch(target)) and named["pool"]:
        _print_reset(_undo(store, host, target), f"the project of run {target}", as_json=as_json)
        return
    url, project_id = parse_target(target)
    with StudioClient.from_settings(host, url=url) as client:
        project = client.project(project_id)
        with bars() as watch:
            report = restore(client, project, store=store, progress=watch("reset"))
    _print_reset(report, f'project {project.id} ("{project.title}")', as_json=as_json)


def _undo(store: RunStore, host: HostSettings, run_id: str) -> ResetReport:
    """Remove from a project what a run over a pool outside Label Studio imported."""
    from usl_backend.sinks.tasks import undo
    from usl_backend.studio.client import StudioClient

    run = store.get(run_id)
    if run.import_order is None or run.dry_run:
        raise RunError(f"run {run_id} was not imported into a project, so there is nothing to reset")
    if run.state.is_active:
        raise RunError(f"run {run_id} is {run.state}; wait for it, or `usl-backend cancel {run_id}`")
    with StudioClient.from_settings(host) as client:
        return undo(client, run, store=store)


def _print_reset(report: ResetReport, where: str, *, as_json: bool) -> None:
    """Print what was restored and what was left."""
    if as_json:
        click.echo(json.dumps({"restored": list(report.restored), "left": list(report.left)}))
        return
    if not report.restored and not report.left:
        click.echo(f"nothing of a run is in {where}")
    for line in report.restored:
        click.echo(f"restored: {line}")
    for line in report.left:
        click.echo(f"left: {line}")

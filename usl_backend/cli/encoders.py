"""`encoders`: list the encoders of this host and of the libraries, and download weights by consent."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usl_backend.cli.options import DATA, host_options, host_settings, json_option
from usl_backend.cli.overview import size
from usl_backend.cli.verb import Verb
from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usl_backend.encoders.inventory import EncoderEntry
    from usl_backend.encoders.published import Publication

_DESCRIBED = 25
"""Number of published models whose dimensions and size are shown."""


@click.group(invoke_without_command=True)
@click.option("--known", metavar="PATTERN", help="List published models instead, such as `timm:*dinov2*`.")
@json_option
@host_options(*DATA)
def encoders(known: str | None, as_json: bool, **flags: Any) -> None:
    """List encoders whose weights are on this host, with dimensions, size and licence; `pull` downloads others."""
    context = click.get_current_context()
    context.obj = flags
    if context.invoked_subcommand is not None:
        return
    from usl_backend.encoders import ENCODERS, inventory
    from usl_backend.encoders.engines import choose_engine

    if known is not None:
        names = inventory.known(known)
        found = [inventory.describe(name) for name in names[:_DESCRIBED]]
        left = names[_DESCRIBED:]
        if as_json:
            more = [{"encoder": name} for name in left]
            click.echo(json.dumps([*(asdict(entry) for entry in found), *more], indent=1))
            return
        _table(found, estimated=True)
        if left:
            click.echo(f"and {len(left)} more: {', '.join(left[:3])}, ...; narrow the pattern, or use --json")
        if not names:
            click.echo(f"no installed library publishes a model like {known}")
        return
    directory = host_settings(flags).encoders
    found = inventory.here(directory)
    if as_json:
        families = {name: asdict(family) for name, family in ENCODERS.items()}
        shown = {
            "directory": str(directory),
            "engine": choose_engine().to_json(),
            "here": [asdict(entry) for entry in found],
            "families": families,
        }
        click.echo(json.dumps(shown, indent=1))
        return
    _table(found, estimated=False)
    click.echo(f"\nengine: {choose_engine()}\nencoder directory: {directory}")
    click.echo("known names (`--known PATTERN` lists published ones):")
    for family in ENCODERS.values():
        click.echo(f"  {family.form:<52} {family.modality or 'vectors'}")


@encoders.command(cls=Verb)
@click.argument("name")
@click.option("--yes", is_flag=True, help="Download without asking, for scripts.")
@json_option
@host_options(*DATA)
def pull(name: str, yes: bool, as_json: bool, **flags: Any) -> None:
    """Download the weights of an encoder into the encoder directory, after showing size and licence.

    NAME is timm:MODEL, open_clip:MODEL/TAG, sentence-transformers:NAME or torchvision:MODEL. HF_ENDPOINT names a
    mirror of the hub, HF_TOKEN lets in where the authors ask for an agreement.
    """
    from usl_backend import encoders as room
    from usl_backend.encoders.published import published
    from usl_backend.encoders.pulling import pull as download
    from usl_backend.encoders.pulling import pulled, record_dim

    given = {key: value for key, value in flags.items() if value is not None}
    directory = host_settings({**click.get_current_context().obj, **given}).encoders
    publication = published(name)
    present = pulled(publication, directory)
    if not present and not yes and as_json:
        raise click.UsageError("--json asks nothing; add --yes to agree beforehand")
    if not as_json:
        _show(publication, directory)
    if not present and not yes:
        _ask()
    download(publication, directory, bar=sys.stderr.isatty())
    try:
        encoder = room.load(name, directory=directory)
    except EncoderError as error:
        raise EncoderError(f"the files arrived, but {error}") from error
    path = directory / publication.target
    origin = record_dim(path, encoder.dim)
    if as_json:
        click.echo(json.dumps({**asdict(origin), "path": str(path), "already_here": present}, indent=1))
    else:
        click.echo(f"{'already there' if present else 'stored'}: {path} ({encoder.dim} dimensions)")
        click.echo(f"checksum: sha256 {origin.sha256}\nuse it: --encoder {name}")


def _show(publication: Publication, directory: Path) -> None:
    """Print what would be downloaded."""
    count = len(publication.files)
    revision = f", revision {publication.revision[:12]}" if publication.revision else ""
    click.echo(f"encoder  {publication.encoder}")
    click.echo(f"from     {publication.address}{revision}")
    click.echo(f"size     {size(publication.bytes)} in {count} file{'s' if count > 1 else ''}")
    click.echo(f"licence  {publication.licence or 'not stated; read the page before you use it'}")
    click.echo(f"into     {directory / publication.target}")


def _ask() -> None:
    """Ask for consent."""
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is here to agree to the download; add --yes to agree beforehand")
    click.confirm("Download it?", abort=True)


def _table(found: Sequence[EncoderEntry], *, estimated: bool) -> None:
    """Print encoders."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("encoder", "takes", "dims", "size", "licence", "" if estimated else "where"):
        table.add_column(heading, no_wrap=heading == "encoder")
    for entry in found:
        table.add_row(
            entry.encoder,
            entry.modality or "vectors",
            "" if entry.dim is None else str(entry.dim),
            "" if entry.bytes is None else f"{'~' if estimated else ''}{size(entry.bytes)}",
            entry.licence,
            entry.place,
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)

"""Grouped help of a verb: `--help` shows the common options, `--help-all` every option."""

from __future__ import annotations

from typing import Any, Final

import click

OWN: Final = "Options"
SELECTION: Final = "Selection"
EMBEDDING: Final = "Embedding"
FILES: Final = "Pools outside Label Studio"
ENGINE: Final = "Engine"
METHOD: Final = "Method"
HOST: Final = "This host"
MEDIA: Final = "Media"
GROUPS: Final = (OWN, SELECTION, EMBEDDING, ENGINE, FILES, METHOD, HOST, MEDIA)
"""Groups in display order."""
LESS_USED: Final = frozenset({ENGINE, METHOD, MEDIA})
"""Groups that only `--help-all` shows."""

_EVERYTHING: Final = "usl_backend.cli.verb.everything"
"""Key in the context that is set by `--help-all`."""


class Flag(click.Option):
    """Flag in a group of its verb's help.

    Parameters
    ----------
    group
        One of `GROUPS`.
    setting
        Name of the setting that the flag sets; "" for a flag that only this verb has.
    """

    def __init__(self, *args: Any, group: str = OWN, setting: str = "", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.group, self.setting = group, setting


class Verb(click.Command):
    """Command whose help is shown in groups."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's parameters, `--help` and, if that leaves options out, `--help-all`."""
        params = super().get_params(ctx)
        if any(_group(param) in LESS_USED for param in params):
            params.append(
                click.Option(
                    ["--help-all"],
                    is_flag=True,
                    is_eager=True,
                    expose_value=False,
                    callback=_show_all,
                    help="Show every option and exit.",
                )
            )
        return params

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group."""
        everything = ctx.meta.get(_EVERYTHING, False)
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                rows[_group(param)].append(record)
        for group, records in rows.items():
            if records and (everything or group not in LESS_USED):
                with formatter.section(group):
                    formatter.write_dl(records)
        left = sum(len(records) for group, records in rows.items() if group in LESS_USED)
        if left and not everything:
            formatter.write_paragraph()
            formatter.write_text(f"{left} more options: {ctx.command_path} --help-all")


def _group(param: click.Parameter) -> str:
    """Return the group of a parameter; flags without a group are among the verb's own options."""
    return param.group if isinstance(param, Flag) else OWN


def _show_all(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    """Print the whole help and exit."""
    if asked and not ctx.resilient_parsing:
        ctx.meta[_EVERYTHING] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()

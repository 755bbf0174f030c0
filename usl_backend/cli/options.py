"""What verbs share: flags derived from `settings.OPTIONS` (no name or default is written here), and the store."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from usl_backend.cli import verb
from usl_backend.settings import OPTIONS, HostSettings, Option, Scope

if TYPE_CHECKING:
    from usl_backend.runs import RunStore

F = TypeVar("F", bound=Callable[..., Any])

DATA = ("model_dir", "encoder_dir")
STUDIO = ("label_studio_url",)
MEDIA = (
    "label_studio_local_files_document_root",
    "media_workers",
    "media_allowed_hosts",
    "media_max_bytes",
    "media_timeout",
    "media_max_pixels",
)
_EMBEDDING = ("encoder", "image_size", "data_key")


def run_options(function: F) -> F:
    """Give a verb the flags of every run option and of every method's options."""
    return _decorated(function, [option for option in OPTIONS if option.scope != "host"])


def host_options(*names: str) -> Callable[[F], F]:
    """Give a verb the flags of these host options; secrets have none."""
    chosen = [option for option in OPTIONS if option.scope == "host" and option.name in names]
    unknown = set(names) - {option.name for option in chosen}
    if unknown:
        raise ValueError(f"no host option is called {sorted(unknown)}")
    return lambda function: _decorated(function, [option for option in chosen if not option.secret])


def json_option(function: F) -> F:
    """Give a verb the flag `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(function)


def split(flags: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Host and run values among the flags, those given only."""
    scopes: dict[str, Scope] = {option.name: option.scope for option in OPTIONS}
    given = {name: value for name, value in flags.items() if value is not None}
    host = {name: value for name, value in given.items() if scopes[name] == "host"}
    return host, {name: value for name, value in given.items() if name not in host}


def host_settings(flags: Mapping[str, Any]) -> HostSettings:
    """Host settings from the environment and these flags."""
    return HostSettings.load(split(flags)[0])


def open_store(host: HostSettings) -> RunStore:
    """The runs of the data directory, closed when the verb ends."""
    from usl_backend.runs import RunStore

    return click.get_current_context().with_resource(closing(RunStore(host.model_dir)))


def _decorated(function: F, options: list[Option]) -> F:
    """The function with a click option for each."""
    for option in reversed(options):
        function = click.option(_declaration(option), option.name, **_attributes(option))(function)
    return function


def _declaration(option: Option) -> str:
    """The flag, and its negation where it switches something."""
    return f"{option.flag}/--no-{option.flag[2:]}" if option.annotation is bool else option.flag


def _attributes(option: Option) -> dict[str, Any]:
    """What click wants to know; None stays the default, so that the environment is not overridden."""
    text = option.help
    if option.methods:
        text += f" [{', '.join(option.methods)}]"
    # Compared by kind: 0 is a default worth showing, False is what a switch is anyway.
    if option.default is not None and option.default is not False and option.default != "":
        text += f" Default: {option.default}."
    if option.scope == "host":
        text += f" Else ${option.environment}."
    attributes: dict[str, Any] = {
        "cls": verb.Flag,
        "group": _group(option),
        "setting": option.name,
        "default": None,
        "help": text,
    }
    if option.annotation is not bool:
        kind, name = _kind(option.annotation)
        attributes |= {"type": kind, "metavar": name}
    return attributes


def _group(option: Option) -> str:
    """Group of the help that an option belongs to."""
    if option.scope == "method":
        return verb.METHOD
    if option.scope == "run":
        return verb.EMBEDDING if option.name in _EMBEDDING else verb.SELECTION
    return verb.MEDIA if option.name in MEDIA else verb.HOST


def _kind(annotation: Any) -> tuple[Any, str | None]:
    """Click's type and metavar; ranges are checked by the settings themselves."""
    if typing.get_origin(annotation) is Literal:
        return click.Choice([str(choice) for choice in typing.get_args(annotation)]), None
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return str, "VALUE"
    if annotation is int:
        return int, "N"
    if annotation is float:
        return float, "X"
    return str, "TEXT"

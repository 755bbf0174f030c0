"""Flags that verbs share, all derived from `settings.OPTIONS`, and the run store."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from usl_backend.cli import verb
from usl_backend.settings import HOST_OPTIONS, HostSettings, Option

if TYPE_CHECKING:
    from usl_backend.runs import RunStore

F = TypeVar("F", bound=Callable[..., Any])

DATA = ("model_dir", "encoder_dir")
STUDIO = ("label_studio_url",)
MEDIA = (
    "label_studio_host",
    "label_studio_local_files_document_root",
    "media_workers",
    "media_allowed_hosts",
    "media_max_bytes",
    "media_timeout",
    "media_max_pixels",
    "media_missing",
)
_EMBEDDING = ("encoder", "image_size", "data_key")
_ENGINE = ("engine", "precision")


def run_options(function: F) -> F:
    """Add the flags of all run options and method options to a verb."""
    from usl_backend.settings import OPTIONS  # loads the selection methods, which most verbs do not need

    return _decorated(function, [option for option in OPTIONS if option.scope != "host"])


def host_options(*names: str) -> Callable[[F], F]:
    """Add the flags of these host options to a verb; secrets have no flag."""
    chosen = [option for option in HOST_OPTIONS if option.name in names]
    unknown = set(names) - {option.name for option in chosen}
    if unknown:
        raise ValueError(f"no host option is called {sorted(unknown)}")
    return lambda function: _decorated(function, [option for option in chosen if not option.secret])


def json_option(function: F) -> F:
    """Add the flag `--json` to a verb."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(function)


def split(flags: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the flags that were given into host values and run values."""
    names = {option.name for option in HOST_OPTIONS}
    given = {name: value for name, value in flags.items() if value is not None}
    host = {name: value for name, value in given.items() if name in names}
    return host, {name: value for name, value in given.items() if name not in host}


def host_settings(flags: Mapping[str, Any]) -> HostSettings:
    """Read the host settings from the environment and these flags."""
    return HostSettings.load(split(flags)[0])


def open_store(host: HostSettings) -> RunStore:
    """Open the run store of the data directory; it is closed when the verb ends."""
    from usl_backend.runs import RunStore

    return click.get_current_context().with_resource(closing(RunStore(host.model_dir)))


def _decorated(function: F, options: list[Option]) -> F:
    """Add a click option to the function for each option."""
    for option in reversed(options):
        function = click.option(_declaration(option), option.name, **_attributes(option))(function)
    return function


def _declaration(option: Option) -> str:
    """Return the flag, with its negation if it is a switch."""
    return f"{option.flag}/--no-{option.flag[2:]}" if option.annotation is bool else option.flag


def _attributes(option: Option) -> dict[str, Any]:
    """Return click's attributes of an option; its default stays None, so that the environment is not overridden."""
    text = option.help
    if option.methods:
        text += f" [{', '.join(option.methods)}]"
    # Compared by identity: the default 0 is shown, False is not.
    if option.default is not None and option.default is not False and option.default not in ("", ()):
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
    """Return the help group of an option."""
    if option.scope == "method" or option.name == "preset":
        return verb.METHOD
    if option.name in _ENGINE:
        return verb.ENGINE
    if option.scope == "run":
        return verb.EMBEDDING if option.name in _EMBEDDING else verb.SELECTION
    return verb.MEDIA if option.name in MEDIA else verb.HOST


def _kind(annotation: Any) -> tuple[Any, str | None]:
    """Return click's type and metavar; the settings check ranges themselves."""
    if typing.get_origin(annotation) is Literal:
        return click.Choice([str(choice) for choice in typing.get_args(annotation)]), None
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return str, "VALUE"
    if typing.get_origin(annotation) is tuple:
        return str, "IDS"
    if annotation is int:
        return int, "N"
    if annotation is float:
        return float, "X"
    return str, "TEXT"

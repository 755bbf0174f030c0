"""The tables and the picture of docs/ that are made from the code.

`python tests/reference_tables.py` writes them; test_reference.py compares.
"""

import re
import tempfile
from collections.abc import Callable
from contextlib import closing
from html import escape
from importlib import import_module
from pathlib import Path

import click
from test_layers import LAYERS

from usl_backend.cli import app
from usl_backend.encoders import ENCODERS
from usl_backend.exports import FORMATS
from usl_backend.jobs import Jobs
from usl_backend.runs import RunStore
from usl_backend.selection import METHODS
from usl_backend.settings import HostSettings, settings_table
from usl_backend.web import create_app
from usl_backend.web.metrics import _Runs

DOCS = Path(__file__).parent.parent / "docs"
PICTURE = DOCS / "images" / "layers.svg"


def verbs() -> str:
    """A row for each verb of the command line."""
    rows = ["| verb | what it does |", "|---|---|"]
    for name, command in _commands().items():
        metavars = [
            p.make_metavar(click.Context(app)) for p in command.params if isinstance(p, click.Argument)
        ]
        rows.append(f"| `{' '.join([name, *metavars])}` | {_first_line(command.help)} |")
    return "\n".join(rows)


def flags() -> str:
    """A table for each verb that has flags of its own, `--json` apart; those that are settings are left out."""
    parts = []
    for name, command in _commands().items():
        rows = [
            f"| {_names(flag)} | {_meaning(flag)} |"
            for flag in command.params
            if isinstance(flag, click.Option) and not getattr(flag, "setting", "") and flag.name != "as_json"
        ]
        if rows:
            parts.append("\n".join([f"### {name}", "", "| flag | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def routes() -> str:
    """A row for each route of the server, Label Studio's own first."""
    with tempfile.TemporaryDirectory() as directory:
        host = HostSettings.load({"model_dir": Path(directory)}, environ={})
        with closing(RunStore(host.model_dir)) as store:
            web = create_app(host, Jobs(store, host))
    rows = ["| route | method | what it does |", "|---|---|---|"]
    for rule in web.url_map.iter_rules():
        if rule.endpoint != "static":
            methods = " ".join(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))
            view = web.view_functions[rule.endpoint]
            path = re.sub(r"<\w+:(\w+)>", r"<\1>", rule.rule)
            rows.append(f"| `{path}` | {methods} | {_first_line(view.__doc__)} |")
    return "\n".join(rows)


def metrics() -> str:
    """A row for each metric of our own."""
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as directory, closing(RunStore(Path(directory))) as store:
        for family in _Runs(store).collect():
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in getattr(family, "_labelnames", ()))
            rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows)


def formats() -> str:
    """A row for each format of an export."""
    rows = ["| format | `--media` | what is written |", "|---|---|---|"]
    return "\n".join(
        [*rows, *(f"| `{name}` | {made.media} | {made.summary} |" for name, made in FORMATS.items())]
    )


def encoders() -> str:
    """A row for each family of encoders."""
    rows = ["| encoder | takes | extra | weights |", "|---|---|---|---|"]
    for family in ENCODERS.values():
        extra = f"`{family.extra}`" if family.extra else ""
        forms = ", ".join(f"`{form}`" for form in family.form.split(" or "))
        rows.append(f"| {forms} | {family.modality or 'either'} | {extra} | {family.weights} |")
    return "\n".join(rows)


def methods() -> str:
    """A row for each selection method."""
    rows = ["| method | presets | what it chooses |", "|---|---|---|"]
    for name, method in METHODS.items():
        presets = ", ".join(f"`{preset}`" for preset in method.presets)
        rows.append(f"| `{name}` | {presets} | {_first_line(method.__doc__)} |")
    return "\n".join(rows)


def rooms() -> str:
    """A row for each room, from the top layer down."""
    rows = ["| layer | room | holds |", "|---|---|---|"]
    for room, layer in sorted(LAYERS.items(), key=lambda entry: (-entry[1], entry[0])):
        name = "usl_backend" if room == "__init__" else f"usl_backend.{room}"
        rows.append(f"| {layer} | `{room}` | {_first_line(import_module(name).__doc__)} |")
    return "\n".join(rows)


def layers() -> str:
    """The picture of the rooms, a row of boxes for each layer."""
    row, gap, left = 34, 8, 88
    found = sorted(set(LAYERS.values()), reverse=True)
    lines, widest = [], 0
    for place, layer in enumerate(found):
        top, x = place * (row + gap) + gap, left
        lines.append(f'<text x="8" y="{top + 22}" class="layer">layer {layer}</text>')
        for room in sorted(room for room, other in LAYERS.items() if other == layer):
            width = 9 * len(room) + 24
            lines.append(f'<rect x="{x}" y="{top}" width="{width}" height="{row}" rx="5"/>')
            lines.append(f'<text x="{x + width // 2}" y="{top + 22}" class="room">{escape(room)}</text>')
            x += width + gap
        widest = max(widest, x)
    height = len(found) * (row + gap) + gap
    size = f'width="{widest}" height="{height}" viewBox="0 0 {widest} {height}"'
    style = (
        "text { font: 15px monospace } .layer { fill: #7a7f99 } .room { fill: #1a237e; text-anchor: middle } "
        "rect { fill: #e3e7fb; stroke: #7986cb }"
    )
    title = "The rooms of usl_backend by layer; a room imports only what lies below it"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<title>{title}</title>\n<style>{style}</style>'
    return "\n".join([head, *lines, "</svg>"]) + "\n"


TABLES: dict[str, Callable[[], str]] = {
    "encoders": encoders,
    "flags": flags,
    "formats": formats,
    "methods": methods,
    "metrics": metrics,
    "rooms": rooms,
    "routes": routes,
    "settings: host": lambda: settings_table("host").strip(),
    "settings: method": lambda: settings_table("method").strip(),
    "settings: run": lambda: settings_table("run").strip(),
    "verbs": verbs,
}


def pages() -> dict[str, Path]:
    """Table -> the one page that shows it."""
    found: dict[str, Path] = {}
    for page in sorted(DOCS.rglob("*.md")):
        for name in re.findall(r"^<!-- (?!end)(.+?) -->$", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert name in TABLES, f"{page}: no table is called {name!r}"
            assert name not in found, f"{page} and {found[name]} both show {name!r}"
            found[name] = page
    return found


def block(text: str, name: str) -> str:
    """What stands between `<!-- name -->` and `<!-- end -->`."""
    found = _pattern(name).search(text)
    assert found, f"there is no block <!-- {name} --> ... <!-- end -->"
    return found[2].strip()


def rewritten(text: str) -> str:
    """A page with its tables as the code has them."""
    for name, table in TABLES.items():
        if f"<!-- {name} -->" in text:
            made = table()
            text = _pattern(name).sub(lambda found, made=made: f"{found[1]}{made}\n{found[3]}", text)
    return text


def _commands() -> dict[str, click.Command]:
    """Verb -> command, without hidden ones; what a verb has below it follows it."""
    context = click.Context(app)
    found: dict[str, click.Command] = {}
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {below}": one for below, one in command.commands.items()}
    return found


def _names(flag: click.Option) -> str:
    """A flag's names with the word for its value."""
    value = "" if flag.is_flag else " " + flag.make_metavar(click.Context(app)).partition(" ")[0]
    if isinstance(flag.type, click.Choice):
        value = " NAME"
    return ", ".join(f"`{name}{value}`" for name in sorted(flag.opts, key=len, reverse=True))


def _meaning(flag: click.Option) -> str:
    """A flag's help, with its choices and its default."""
    parts = [flag.help or ""]
    if isinstance(flag.type, click.Choice):
        parts.append("One of " + ", ".join(f"`{choice}`" for choice in flag.type.choices) + ".")
    if flag.show_default:
        parts.append(f"Default: `{flag.default}`.")
    return " ".join(part for part in parts if part)


def _pattern(name: str) -> re.Pattern[str]:
    """A table's place."""
    return re.compile(rf"(<!-- {re.escape(name)} -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def _first_line(text: str | None) -> str:
    """First sentence of a docstring, fit for a table's cell."""
    assert text, "a verb, route, method or room has no docstring"
    return text.strip().splitlines()[0].replace("|", "\\|")


if __name__ == "__main__":
    for page in set(pages().values()):
        page.write_text(rewritten(page.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_text(layers(), encoding="utf-8")

"""The README's tables, made from the code. `python tests/readme_tables.py` writes them; test_readme.py compares."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from usl_backend.cli import app
from usl_backend.encoders import ENCODERS
from usl_backend.exports import FORMATS
from usl_backend.jobs import Jobs
from usl_backend.runs import RunStore
from usl_backend.settings import HostSettings, settings_table
from usl_backend.web import create_app

README = Path(__file__).parent.parent / "README.md"


def verbs() -> str:
    """A row for each verb of the command line."""
    context = click.Context(app)
    rows = ["| verb | what it does |", "|---|---|"]
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
        rows.append(f"| `{' '.join([name, *arguments])}` | {_first_line(command.help)} |")
    return "\n".join(rows)


def routes() -> str:
    """A row for each route of the server, Label Studio's own first."""
    with tempfile.TemporaryDirectory() as directory:
        host = HostSettings.load({"model_dir": Path(directory)}, environ={})
        store = RunStore(host.model_dir)
        try:
            web = create_app(host, Jobs(store, host))
        finally:
            store.close()
    rows = ["| route | method | what it does |", "|---|---|---|"]
    for rule in web.url_map.iter_rules():
        if rule.endpoint != "static":
            methods = " ".join(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))
            view = web.view_functions[rule.endpoint]
            path = re.sub(r"<\w+:(\w+)>", r"<\1>", rule.rule)
            rows.append(f"| `{path}` | {methods} | {_first_line(view.__doc__)} |")
    return "\n".join(rows)


def formats() -> str:
    """A row for each format of an export."""
    rows = ["| format | what is written |", "|---|---|"]
    return "\n".join([*rows, *(f"| `{name}` | {made.summary} |" for name, made in FORMATS.items())])


def encoders() -> str:
    """A row for each family of encoders."""
    rows = ["| encoder | takes | extra | weights |", "|---|---|---|---|"]
    for family in ENCODERS.values():
        extra = f"`{family.extra}`" if family.extra else ""
        forms = ", ".join(f"`{form}`" for form in family.form.split(" or "))
        rows.append(f"| {forms} | {family.modality or 'either'} | {extra} | {family.weights} |")
    return "\n".join(rows)


TABLES: dict[str, Callable[[], str]] = {
    "encoders": encoders,
    "settings: run": lambda: settings_table("run").strip(),
    "settings: method": lambda: settings_table("method").strip(),
    "settings: host": lambda: settings_table("host").strip(),
    "verbs": verbs,
    "routes": routes,
    "formats": formats,
}


def block(text: str, name: str) -> str:
    """What stands between `<!-- name -->` and `<!-- end -->`."""
    found = _pattern(name).search(text)
    assert found, f"README.md has no block <!-- {name} --> ... <!-- end -->"
    return found[2].strip()


def rewritten(text: str) -> str:
    """The README with every table as the code has it."""
    for name, table in TABLES.items():
        made = table()
        text = _pattern(name).sub(lambda found, made=made: f"{found[1]}{made}\n{found[3]}", text)
    return text


def _pattern(name: str) -> re.Pattern[str]:
    """A table's place."""
    return re.compile(rf"(<!-- {re.escape(name)} -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def _first_line(text: str | None) -> str:
    """First sentence of a docstring, fit for a table's cell."""
    assert text, "a verb or route has no docstring"
    return text.strip().splitlines()[0].replace("|", "\\|")


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")

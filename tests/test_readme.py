"""The README against the code: settings, verbs and routes. A failure prints what must stand there."""

import re
from pathlib import Path

import click
import pytest
from werkzeug.routing import Rule

from usl_backend.cli import app
from usl_backend.jobs import Jobs
from usl_backend.runs import RunStore
from usl_backend.settings import HostSettings, settings_table
from usl_backend.web import create_app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    """What stands between `<!-- name -->` and `<!-- end -->`."""
    found = re.search(rf"<!-- {re.escape(name)} -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert found, f"README.md has no block <!-- {name} --> ... <!-- end -->"
    return found[1].strip()


def first_cells(table: str) -> list[str]:
    """First cell of each row, without its quotes."""
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [line.split("|")[1].strip().strip("`") for line in rows]


def routes(tmp_path: Path) -> list[Rule]:
    host = HostSettings.load({"model_dir": tmp_path}, environ={})
    web = create_app(host, Jobs(RunStore(tmp_path), host))
    return [rule for rule in web.url_map.iter_rules() if rule.endpoint != "static"]


@pytest.mark.parametrize("scope", ["run", "method", "host"])
def test_readme__settings_are_the_code_s(scope: str) -> None:
    table = settings_table(scope).strip()
    marker = f"settings: {scope}"
    assert block(marker) == table, f"write this between <!-- {marker} --> and <!-- end -->:\n{table}"


def test_readme__verbs_are_the_command_line_s() -> None:
    context = click.Context(app)
    verbs = app.list_commands(context)
    assert first_cells(block("verbs")) == verbs
    for verb in verbs:
        command = app.get_command(context, verb)
        assert command is not None
        arguments = "".join(
            f" {p.make_metavar(context) if p.required else '[' + str(p.name).upper() + ']'}"
            for p in command.params
            if isinstance(p, click.Argument)
        )
        assert f"| `{verb}` | `{verb}{arguments}` |" in block("verbs"), f"`{verb}{arguments}`"


def test_readme__routes_are_the_server_s(tmp_path: Path) -> None:
    documented = {}
    for line in block("routes").splitlines()[2:]:
        path, methods = (cell.strip().strip("`") for cell in line.split("|")[1:3])
        documented[path] = set(methods.split())
    served: dict[str, set[str]] = {}
    for rule in routes(tmp_path):
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"<\1>", rule.rule)
        served.setdefault(path, set()).update((rule.methods or set()) - {"HEAD", "OPTIONS"})
    assert documented == served


def test_readme__pictures_are_there_and_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) >= 4
    for picture in pictures:
        assert (ROOT / picture).stat().st_size < 300_000, picture


def test_readme__python_runs() -> None:
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(source, names)
    selection = names["selection"]
    assert len(set(selection.indices.tolist())) == 40


def test_readme__files_of_the_paper_exist() -> None:
    table = README.partition("## From the paper to the files")[2].partition("\n## ")[0]
    folder = ROOT
    names = re.findall(r"`([\w/]+\.py)`", table)
    assert names
    for name in names:
        folder = (ROOT / name).parent if "/" in name else folder
        assert (folder / Path(name).name).is_file(), name


def test_readme__says_how_to_begin_and_what_not_to_press() -> None:
    for line in (
        'pip install -e ".[demo]" && usl-backend demo',
        'pip install -e ".[test]" && pytest',
        'pytest -m "not browser"',
        "Create Annotations From Predictions",
    ):
        assert line in README

"""The site: tables and facts against the code, a build without warnings, nothing loaded from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest
from reference_tables import DOCS, PICTURE, TABLES, block, layers, pages, rewritten
from test_layers import LAYERS

from usl_backend.cli import VERBS, app
from usl_backend.doctor import OLDEST_STUDIO

ROOT = DOCS.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
    if path.name != "CHANGELOG.md"
}
PYTHON = [
    pytest.param(source, id=f"{name}-{place}")
    for name, text in PAGES.items()
    for place, source in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
]

_COMMAND = re.compile(r"(?:^ *|`|&& |exec backend )usl-backend ([a-z]+)\b([^`\n#|;&>]*)", re.MULTILINE)


class Loads(HTMLParser):
    """Addresses that a browser loads by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name = {"script": "src", "img": "src", "iframe": "src", "link": "href"}.get(tag)
        if name is not None and (address := given.get(name)):
            self.found.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    # Not --quiet: it hides warnings from --strict too.
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", directory],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_site__loads_nothing_from_elsewhere(site: Path) -> None:
    shown = sorted(site.rglob("*.html"))
    assert len(shown) >= len(list(DOCS.rglob("*.md")))
    for page in shown:
        reader = Loads()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.found
        assert not [address for address in reader.found if re.match(r"(https?:)?//", address)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_site__public_names_are_described(site: Path) -> None:
    import usl_backend

    text = (site / "reference" / "python.html").read_text(encoding="utf-8")
    for name in set(usl_backend.__all__) - {"__version__"}:
        assert re.search(rf'id="usl_backend\.(\w+\.)*{name}"', text), name


@pytest.mark.parametrize("name", TABLES)
def test_table__is_the_code_s(name: str) -> None:
    text = pages()[name].read_text(encoding="utf-8")
    assert block(text, name) == TABLES[name](), "run: python tests/reference_tables.py"


def test_tables__are_not_empty() -> None:
    for name, line in {
        "settings: run": "`budget`",
        "settings: host": "`LABEL_STUDIO_URL`",
        "verbs": "`select TARGET`",
        "flags": "`--import-to PROJECT`",
        "routes": "`/webhook` | POST",
        "metrics": "`usl_runs` | gauge | `state`",
        "methods": "`usl` | `paper-cifar10`",
    }.items():
        assert line in block(pages()[name].read_text(encoding="utf-8"), name)


@pytest.mark.parametrize("name", TABLES)
def test_rewritten__drift_is_seen_and_mended(name: str) -> None:
    text = pages()[name].read_text(encoding="utf-8")
    row = block(text, name).splitlines()[-1]
    drifted = text.replace(row + "\n", "", 1)
    assert block(drifted, name) != TABLES[name]()
    assert rewritten(drifted) == text


def test_layers__picture_is_the_code_s() -> None:
    assert PICTURE.read_text(encoding="utf-8") == layers(), "run: python tests/reference_tables.py"
    assert all(f">{room}<" in layers() for room in LAYERS)


def test_documents__pictures_are_there_and_small() -> None:
    found = [
        (ROOT / name).parent / picture
        for name, text in PAGES.items()
        for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    ]
    assert len(found) >= 4
    for picture in found:
        assert picture.stat().st_size < 300_000, picture


@pytest.mark.parametrize("source", PYTHON)
def test_documents__python_runs(source: str) -> None:
    exec(source, {})


@pytest.mark.parametrize("name", PAGES)
def test_documents__files_that_are_named_exist(name: str) -> None:
    for path in re.findall(r"\b((?:benchmarks|examples|tests|usl_backend|findings)/[\w/.-]*\w)", PAGES[name]):
        assert (ROOT / path).exists() or list(ROOT.glob(f"{path}*")), path


@pytest.mark.parametrize("name", PAGES)
def test_documents__commands_and_flags_exist(name: str) -> None:
    context = click.Context(app)
    for verb, rest in _COMMAND.findall(PAGES[name]):
        assert verb in VERBS, verb
        command = app.get_command(context, verb)
        assert command is not None
        known = {flag for parameter in command.get_params(context) for flag in parameter.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z][\w-]*", rest)) <= known, f"usl-backend {verb}{rest}"


def test_documents__oldest_label_studio_is_the_one_that_doctor_accepts() -> None:
    limits = PAGES["docs/reference/limits.md"]
    assert f"Label Studio {OLDEST_STUDIO[0]}.{OLDEST_STUDIO[1]} or newer" in limits


def test_documents__files_of_the_paper_exist() -> None:
    table = [line for line in PAGES["docs/paper.md"].splitlines() if line.startswith("|")]
    folder = ROOT
    names = re.findall(r"`([\w/]+\.py)`", "\n".join(table))
    assert names
    for name in names:
        folder = (ROOT / name).parent if "/" in name else folder
        assert (folder / Path(name).name).is_file(), name

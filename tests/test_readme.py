"""The README against the code: settings, verbs and routes. A failure prints what must stand there."""

import re
from pathlib import Path

import pytest
from readme_tables import TABLES, block, rewritten

from usl_backend.doctor import OLDEST_STUDIO

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_readme__table_is_the_code_s(name: str) -> None:
    assert block(README, name) == TABLES[name](), "run: python tests/readme_tables.py"


def test_readme__tables_are_not_empty() -> None:
    assert "`budget`" in block(README, "settings: run")
    assert "`LABEL_STUDIO_URL`" in block(README, "settings: host")
    assert "`select TARGET`" in block(README, "verbs")
    assert "`/webhook` | POST" in block(README, "routes")


@pytest.mark.parametrize("name", TABLES)
def test_rewritten__drift_is_seen_and_mended(name: str) -> None:
    row = block(README, name).splitlines()[-1]
    drifted = README.replace(row + "\n", "", 1)
    assert block(drifted, name) != TABLES[name]()
    assert rewritten(drifted) == README


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


def test_readme__oldest_label_studio_is_the_one_that_doctor_accepts() -> None:
    assert f"Label Studio {OLDEST_STUDIO[0]}.{OLDEST_STUDIO[1]} or newer" in README


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

"""The README against the code and the documents: commands, figures, links."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINKED = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
"""Pages outside the site, whose links its strict build does not follow."""


def anchors(page: Path) -> set[str]:
    """What `#...` may name on a page: its headings, as the repository's host and the site write them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_readme__fits_a_screen_or_so() -> None:
    assert README.count("\n") <= 150


def test_readme__says_how_to_begin_and_what_not_to_press() -> None:
    for line in (
        'pip install -e ".[demo]" && usl-backend demo',
        'pip install -e ".[test]" && pytest',
        "Create Annotations From Predictions",
    ):
        assert line in README


def test_readme__has_one_picture_that_is_small() -> None:
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert (ROOT / picture).stat().st_size < 300_000


def test_readme__python_runs() -> None:
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    *before, last = source.strip().splitlines()
    names: dict[str, object] = {}
    exec("\n".join(before), names)
    assert len(set(eval(last, names).tolist())) == 40


def test_readme__quality_is_that_of_the_benchmarks() -> None:
    benchmarks = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    table = benchmarks[benchmarks.index("| rows per pick | cells | usl | - random |") :].partition("\n\n")[0]
    bands, chosen, random = [], [], []
    for line in table.splitlines()[2:]:
        band, _, ours, gain = (cell.strip() for cell in line.strip("|").split("|")[:4])
        if band != "all":
            bands.append(band)
            chosen.append(ours)
            random.append(f"{float(ours) - float(gain.split()[0]):.1f}")
    for name, measured in [("tasks per pick", bands), ("chosen", chosen), ("random", random)]:
        told = re.search(rf"^\| {name} \|(.+)\|$", README, re.MULTILINE)
        assert told is not None
        assert [cell.strip() for cell in told[1].split("|")] == measured


@pytest.mark.parametrize("name", LINKED)
def test_links__lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target

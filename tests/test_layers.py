import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "usl_backend"

# Room or file -> layer. A file imports its own room and lower layers; two rooms of one layer do not know each
# other, so neither `studio` and `runs` nor `adapter` and `web` can ever meet below the room that joins them.
LAYERS = {
    "version": 0,
    "cpus": 0,
    "errors": 0,
    "instances": 0,
    "progress": 0,
    "selection": 1,
    "encoders": 1,
    "media": 1,
    "outliers": 1,
    "distributed": 2,
    "evaluation": 2,
    "settings": 2,
    # Above the selection: the graph is made of its neighbors, on rows prepared as it prepares them.
    "suggestions": 2,
    "runs": 3,
    "studio": 3,
    "sources": 4,
    # Above the sources: vectors that somebody made already are looked up in a file that a source can read.
    "embedding": 5,
    "sinks": 5,
    # Below exports and pages, which show suggestions; above the embedding, which makes rows of class names.
    "suggesting": 6,
    "pipeline": 7,
    "exports": 7,
    "report": 7,
    # Above the report, whose coverage curve it reads.
    "labeling": 8,
    "jobs": 8,
    "doctor": 8,
    "adapter": 9,
    "web": 9,
    "demo": 10,
    "cli": 11,
    "__main__": 12,
    # The front door: it names things of every layer, lazily, and no room may come in through it.
    "__init__": 13,
}
# Of layer 0 only: the foundations may lean on each other.
FOUNDATION = {"version", "errors", "instances", "progress"}


def room_of(path: Path, package: Path = PACKAGE) -> str:
    """First component below the package, without `.py`."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def module_of(path: Path, package: Path = PACKAGE) -> list[str]:
    """Dotted name of the *package* that the file's relative imports start from."""
    parts = [package.name, *path.relative_to(package).with_suffix("").parts]
    return parts[:-1]


def imported_rooms(path: Path, package: Path = PACKAGE) -> Iterator[tuple[int, str]]:
    """Line and room of every import of this package: top level, in functions, under TYPE_CHECKING."""
    here = module_of(path, package)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            # `from usl_backend import errors` names a room in its second half.
            names = [f"{prefix}.{alias.name}" for alias in node.names] if prefix == package.name else [prefix]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = (
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            )
            if function in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                names = [node.args[0].value]
        for name in names:
            root, _, rest = name.partition(".")
            if root == package.name:
                room = rest.partition(".")[0]
                yield node.lineno, room if room in LAYERS else "__init__"


def faults(path: Path, package: Path = PACKAGE) -> list[str]:
    """What the file imports that it may not, one line each."""
    mine = room_of(path, package)
    if mine not in LAYERS:
        return [f"{path.name}: room {mine!r} has no layer; give it one in LAYERS"]
    found = []
    for line, other in imported_rooms(path, package):
        allowed = other == mine or LAYERS[other] < LAYERS[mine] or {mine, other} <= FOUNDATION
        if not allowed:
            found.append(
                f"{path.relative_to(package)}:{line}: {mine} (layer {LAYERS[mine]}) imports "
                f"{other} (layer {LAYERS[other]})"
            )
    return found


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", source_files(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_layers__file_imports_only_downwards(path: Path) -> None:
    assert faults(path) == []


@pytest.mark.parametrize(
    ("room", "source", "culprit"),
    [
        ("selection", "from usl_backend.studio.client import StudioClient", "studio"),
        ("runs", "import usl_backend.studio", "studio"),
        ("studio", "def late():\n    from ..runs.record import Run", "runs"),
        ("errors.py", "from .settings import OPTIONS", "settings"),
        (
            "adapter.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from usl_backend import web",
            "web",
        ),
        ("media.py", "from usl_backend import settings", "settings"),
        ("media.py", "from usl_backend import USL", "__init__"),
        ("web", "import importlib\nimportlib.import_module('usl_backend.demo')", "demo"),
    ],
)
def test_faults__upward_import_is_named(tmp_path: Path, room: str, source: str, culprit: str) -> None:
    package = tmp_path / "usl_backend"
    path = package / room if room.endswith(".py") else package / room / "inside.py"
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    found = faults(path, package)
    assert len(found) == 1
    assert found[0].endswith(f"imports {culprit} (layer {LAYERS[culprit]})")


def test_faults__downward_and_own_room_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "usl_backend" / "studio" / "queue.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import json\nfrom .client import StudioClient\nfrom ..errors import StudioError\n"
        "from usl_backend import media\nfrom usl_backend.studio import labels\n",
        encoding="utf-8",
    )
    assert faults(path, tmp_path / "usl_backend") == []

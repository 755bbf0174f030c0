"""Rules of the house that no type checker knows: who may build a reader, and how files hang together."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "usl_backend"
READERS = "sources/media.py"


def modules(package: Path) -> dict[str, Path]:
    """Dotted name -> file; a room's `__init__.py` goes by the room's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def arrows(package: Path) -> dict[str, set[str]]:
    """File -> the files that it imports: at its top, in functions, and for types alone.

    An import of `room.file` is an arrow to the file: that Python runs the room's `__init__.py` first is left out,
    for most of these name what is inside.
    """
    files = modules(package)
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        named: list[str] = []
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Import):
                named += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = here[: len(here) - node.level + 1] if node.level else []
                prefix = ".".join([*base, *([node.module] if node.module else [])])
                named += [f"{prefix}.{alias.name}" for alias in node.names]
        found[name] = {file for one in named if (file := nearest(one, files)) not in (None, name)}
    return found


def nearest(name: str, files: dict[str, Path]) -> str | None:
    """The file that a dotted name lies in."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Files that import each other in a circle, the first one again at the end; empty where there is none."""
    done: set[str] = set()

    def follow(file: str, way: list[str]) -> list[str]:
        if file in way:
            return [*way[way.index(file) :], file]
        if file in done:
            return []
        for other in sorted(graph[file]):
            if found := follow(other, [*way, file]):
                return found
        done.add(file)
        return []

    return next((found for file in graph if (found := follow(file, []))), [])


def built_readers(package: Path) -> Iterator[str]:
    """Where a `MediaReader` is built, outside the file that may."""
    for path in modules(package).values():
        if path.relative_to(package).as_posix() == READERS:
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                if called == "MediaReader":
                    yield f"{path.relative_to(package)}:{node.lineno}"


def shared_names(package: Path) -> dict[str, list[str]]:
    """Public class -> the files that define it, where these are several."""
    found = defaultdict(list)
    for name, path in modules(package).items():
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name)
    return {name: files for name, files in found.items() if len(files) > 1}


def test_house__files_import_in_no_circle() -> None:
    graph = arrows(PACKAGE)
    assert "usl_backend.studio.client" in graph["usl_backend.sources.media"], "arrows were read"
    assert circle(graph) == []


def test_house__one_file_builds_media_readers() -> None:
    assert "MediaReader(" in (PACKAGE / READERS).read_text(encoding="utf-8")
    assert list(built_readers(PACKAGE)) == []


def test_house__pipeline_holds_only_the_order_of_stages() -> None:
    files = [path.name for path in (PACKAGE / "pipeline").glob("*.py")]
    assert 0 < len(files) <= 8, files


def test_house__public_classes_have_names_of_their_own() -> None:
    assert shared_names(PACKAGE) == {}


def test_house__progress_is_said_in_one_place() -> None:
    protocols = {
        name
        for name, path in modules(PACKAGE).items()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
        and "Progress" in node.name
        and any(ast.unparse(base).startswith("Protocol") for base in node.bases)
    }
    assert protocols == {"usl_backend.progress"}


@pytest.mark.parametrize(
    "back",
    [
        "from usl_backend.room import one",
        "from .one import thing",
        "def late():\n    import usl_backend.room.one",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from usl_backend.room.one import thing",
    ],
)
def test_circle__is_found_wherever_the_import_stands(tmp_path: Path, back: str) -> None:
    room = tmp_path / "usl_backend" / "room"
    room.mkdir(parents=True)
    (room / "one.py").write_text("from usl_backend.room.two import other\nfrom . import three\n")
    (room / "two.py").write_text(back)
    (room / "three.py").write_text("from usl_backend.room.two import other\n")
    names = [f"usl_backend.room.{name}" for name in ("one", "two", "one")]
    found = circle(arrows(tmp_path / "usl_backend"))
    assert set(names) <= set(found)
    assert found[0] == found[-1]
    (room / "two.py").write_text("import json")
    assert circle(arrows(tmp_path / "usl_backend")) == []


def test_built_readers__are_found_by_either_name(tmp_path: Path) -> None:
    package = tmp_path / "usl_backend"
    for name in (READERS, "web/a.py", "web/b.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / READERS).write_text("MediaReader()")
    (package / "web" / "a.py").write_text("def f():\n    return MediaReader()")
    (package / "web" / "b.py").write_text(
        "import media\nwith media.MediaReader(limits=1) as reader:\n    pass"
    )
    assert list(built_readers(package)) == ["web/a.py:2", "web/b.py:2"]

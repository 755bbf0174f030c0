from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from live_studio import LiveProject

from usl_backend.demo import project, texts
from usl_backend.demo.material import MATERIALS
from usl_backend.demo.place import DemoPlace, default_directory
from usl_backend.errors import InputError
from usl_backend.studio.client import StudioClient
from usl_backend.studio.fields import embedded_fields
from usl_backend.studio.label_config import parse


def test_load__is_the_real_data() -> None:
    packages = texts.load()
    assert len({package.name for package in packages}) == len(packages) == 1200
    assert len({package.description for package in packages}) == 1200
    assert all(len(package.description) >= 20 for package in packages)
    counts = Counter(package.section for package in packages)
    assert tuple(sorted(counts)) == texts.classes_of(packages)
    assert (len(counts), min(counts.values()) >= 20) == (8, True)
    # Labels belong to their texts: the words of a section are not those of another.
    games = [package.section for package in packages if "game" in package.description.lower().split()]
    assert games.count("games") > 0.8 * len(games) > 50


def test_load__the_licence_is_beside_it() -> None:
    licence = Path(texts.__file__).parent / "data" / "debian-packages.LICENSE.txt"
    assert "Debian Free Software Guidelines" in licence.read_text("utf-8")


@pytest.mark.parametrize("data", MATERIALS)
def test_material__label_config_is_what_the_backend_reads(data: str) -> None:
    material = MATERIALS[data]()
    config = parse(material.label_config)
    assert config.classes == material.classes
    assert set(material.truth) == set(material.classes)
    assert config.classifier is not None
    assert config.classifier.name == material.control["from_name"]
    assert embedded_fields(config)[0].tag.name == material.control["to_name"]


def test_place__holds_one_kind_of_data(tmp_path: Path) -> None:
    DemoPlace(tmp_path, data="text").remember(project=3)
    assert DemoPlace(tmp_path, data="text").memory.project == 3
    with pytest.raises(InputError, match="holds a demo with --data text; give that, or another"):
        DemoPlace(tmp_path)
    assert default_directory("images") != default_directory("text")


@pytest.mark.live
def test_fill__imports_what_is_missing_and_knows_each_text(
    client: StudioClient, make_project: Callable[..., LiveProject]
) -> None:
    packages = texts.load()[:60]
    made = make_project(0, project.label_config(texts.classes_of(packages), "text"))
    texts.fill(client, made.id, packages[5:9])
    numbers = texts.fill(client, made.id, packages)
    assert sorted(numbers.values()) == list(range(60))
    for task in client.tasks(made.id):
        assert task.data["text"] == packages[numbers[task.id]].description
    assert texts.fill(client, made.id, packages) == numbers

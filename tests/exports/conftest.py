from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from usl_backend.exports import Row, Split

NAMES = (
    "plain.png",
    "comma, blank.png",
    "line\nbreak.png",
    "ünï 空 'q\".png",
    "UPPER.PNG",
    "no suffix",
    "-7.jpeg",
)
CLASSES = ('T-shirt, "top"', "Hose\nlang", "nobody chose", "Bag/Tasche")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Real pictures with every kind of name; each has a color of its own, so that files cannot be mixed up."""
    folder = tmp_path / "pictures, ü"
    folder.mkdir()
    paths = []
    for place, name in enumerate(NAMES):
        path = folder / name
        Image.new("RGB", (4, 4), (place * 30, 0, 255)).save(path, "JPEG" if name.endswith("jpeg") else "PNG")
        paths.append(path)
    return paths


@pytest.fixture
def make_split(pictures: list[Path]) -> Callable[..., Split]:
    """Three labeled and four unlabeled rows over the pictures; tasks are not the indices."""

    def make(*, include_labeled: bool = False) -> Split:
        labels = {1: CLASSES[3], 2: CLASSES[0], 5: CLASSES[3]}
        ranks = {2: 0, 5: 1, 3: 2}
        rows = [
            Row(
                index,
                100 - index,
                str(path),
                "pool" if index not in ranks else "pick" if index in labels else "reserve",
                ranks.get(index),
                labels.get(index),
            )
            for index, path in enumerate(pictures)
        ]
        labeled = tuple(row for row in rows if row.label is not None)
        rest = [row for row in rows if row.label is None]
        if include_labeled:
            rest = sorted(
                [*rest, *(Row(r.index, r.task, r.source, r.role, r.rank) for r in labeled)],
                key=lambda r: r.index,
            )
        return Split(labeled, tuple(rest), CLASSES, {"method": "usl", "seed": 3, "project": {"id": 12}})

    return make

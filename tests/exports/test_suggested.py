"""Suggested classes in exports, apart from labels that people gave."""

import csv
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from usl_backend.errors import ExportError
from usl_backend.exports import FORMATS, Row, Split, check_export, export_split, local_file
from usl_backend.exports.check import read_manifest
from usl_backend.exports.split import SuggestedRow
from usl_backend.exports.suggested import with_suggestions
from usl_backend.suggesting.compute import RunSuggestions
from usl_backend.suggestions import Acceptance

MakeSplit = Callable[..., Split]
ABLE = [name for name, one in FORMATS.items() if one.suggested]


def suggestion(row: Row, label: str, confidence: float, *, accepted: bool = False) -> SuggestedRow:
    given = {field.name: getattr(row, field.name) for field in fields(Row)} | {"label": label}
    return SuggestedRow(**given, confidence=confidence, accepted=accepted)


@pytest.fixture
def split(make_split: MakeSplit) -> Split:
    """Suggestions for two of the four unlabeled rows."""
    made = make_split()
    first, _, third, _ = made.unlabeled
    return replace(
        made,
        suggested=(
            suggestion(first, made.classes[1], 0.875, accepted=True),
            suggestion(third, made.classes[3], 0.25),
        ),
    )


@pytest.mark.parametrize("name", ABLE)
def test_export_split__suggestions_stand_apart_and_read_back(split: Split, tmp_path: Path, name: str) -> None:
    directory = export_split(split, tmp_path / "out", format=name, media="copy", fetch=local_file)
    plain = export_split(
        replace(split, suggested=None), tmp_path / "plain", format=name, media="copy", fetch=local_file
    )
    manifest = read_manifest(directory)
    contents = FORMATS[name].read(directory, manifest)
    without = FORMATS[name].read(plain, read_manifest(plain))
    assert (contents.labeled, contents.unlabeled) == (without.labeled, without.unlabeled)
    assert without.suggested == ()
    files = {row["index"]: row["file"] for row in manifest["rows"]}
    assert sorted(contents.suggested) == sorted(
        (files[row.index], row.label, row.confidence) for row in split.suggested or ()
    )
    checked = check_export(directory)
    assert (checked.labeled, checked.unlabeled, checked.suggested) == (3, 4, 2)
    none = export_split(
        replace(split, suggested=()), tmp_path / "none", format=name, media="copy", fetch=local_file
    )
    assert check_export(none).suggested == 0


def test_export_split__csv_of_suggestions(split: Split, tmp_path: Path) -> None:
    directory = export_split(split, tmp_path / "out", format="csv")
    with (directory / "suggested.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["task"], row["label"], row["confidence"], row["accepted"]) for row in rows] == [
        ("100", split.classes[1], "0.875", "True"),
        ("96", split.classes[3], "0.25", "False"),
    ]


def test_export_split__torch_loader_gives_suggested_pictures(split: Split, tmp_path: Path) -> None:
    import importlib.util

    directory = export_split(split, tmp_path / "out", format="torch", media="copy", fetch=local_file)
    spec = importlib.util.spec_from_file_location("torch_split", directory / "torch_split.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    rows = loaded.SuggestedRows(directory)
    assert rows.confidences == [0.875, 0.25]
    assert rows.targets == [1, 3]
    picture, target = rows[0]
    assert (round(picture.getpixel((0, 0))[0] / 30), target) == (0, 1)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ABLE])
def test_export_split__format_without_a_place_for_them_is_refused_by_name(
    split: Split, tmp_path: Path, name: str
) -> None:
    with pytest.raises(
        ExportError, match=rf"{name} cannot hold suggested labels .* choose one of json, jsonl, csv"
    ):
        export_split(
            replace(split, modality=FORMATS[name].shows[0]), tmp_path / "out", format=name, fetch=local_file
        )
    assert not (tmp_path / "out").exists()


def test_export_split__suggestion_of_a_row_whose_file_is_gone_is_left_out(
    split: Split, tmp_path: Path
) -> None:
    Path(split.unlabeled[0].source).unlink()
    directory = export_split(split, tmp_path / "out", format="csv", media="copy", fetch=local_file)
    assert check_export(directory).suggested == 1


@pytest.mark.parametrize(
    ("file", "old", "new", "match"),
    [
        ("suggested.json", '"label": "Bag/Tasche"', '"label": "Bag"', "the suggestion 'Bag'"),
        ("suggested.json", '"confidence": 0.25', '"confidence": 1.25', r"\(1.25\)"),
        ("suggested.json", "media/96.png", "media/99.png", "is of no unlabeled row"),
        ("manifest.json", '"suggested": 2', '"suggested": 3', "suggested is 2, but manifest.json says 3"),
    ],
)
def test_check_export__suggestions_changed_afterwards(
    split: Split, tmp_path: Path, file: str, old: str, new: str, match: str
) -> None:
    directory = export_split(split, tmp_path / "out", format="json", media="copy", fetch=local_file)
    text = (directory / file).read_text("utf-8")
    assert old in text
    (directory / file).write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ExportError, match=match):
        check_export(directory)


def test_split__suggested_class_that_is_none_is_refused(make_split: MakeSplit) -> None:
    made = make_split()
    with pytest.raises(ExportError, match="label 'owl' is not among the classes"):
        replace(made, suggested=(suggestion(made.unlabeled[0], "owl", 0.5),))


def found(made: Split, *, calibrated: bool) -> RunSuggestions:
    """What was suggested for a pool that is the split's rows and one more; the third row's task is gone."""
    tasks = np.array([*sorted(row.task for row in (*made.labeled, *made.unlabeled)), 500])
    n = len(tasks)
    accepted = np.zeros(n, dtype=bool)
    accepted[tasks == made.unlabeled[1].task] = True
    labels: Any = SimpleNamespace(
        pool=SimpleNamespace(ids=tasks),
        classes=(*made.classes, "owl"),
        counts={"owl": 0, "cat": 3},
        controls=np.empty(0, dtype=np.int64),
    )
    suggested: Any = SimpleNamespace(label=np.full(n, 4))
    is_open = np.isin(tasks, [row.task for row in made.unlabeled if row is not made.unlabeled[2]])
    promise = Acceptance(accepted, 1, 0.5, 0.951, 0.95, 0.1, 60, 45, 0)
    confidence = np.where(tasks == made.unlabeled[0].task, 0.3, 0.9)
    return RunSuggestions(
        labels, suggested, confidence, calibrated, None, promise, is_open, names=False, notes=("one",)
    )


def test_with_suggestions__unlabeled_rows_alone_get_them_and_the_manifest_says_how(
    make_split: MakeSplit, tmp_path: Path
) -> None:
    made = make_split()
    told = with_suggestions(made, found(made, calibrated=True))
    assert told.suggested is not None
    kept = [made.unlabeled[number] for number in (0, 1, 3)]
    assert [row.task for row in told.suggested] == [row.task for row in kept]
    assert {row.label for row in told.suggested} == {"owl"}
    assert [row.accepted for row in told.suggested] == [False, True, False]
    assert (told.labeled, told.unlabeled) == (made.labeled, made.unlabeled)
    directory = export_split(told, tmp_path / "out", format="csv")
    how = json.loads((directory / "manifest.json").read_text("utf-8"))["suggested"]
    assert (how["rows"], how["accepted"], how["labels"], how["control_labels"]) == (3, 1, 3, 60)
    assert how["confidence"] == "chance of being right"
    assert how["promise"]["target"] == 0.95
    assert how["promise"]["says"].startswith("1 accepted at 95 %: 60 control labels")


def test_with_suggestions__least_confidence_needs_chances(make_split: MakeSplit) -> None:
    made = make_split()
    told = with_suggestions(made, found(made, calibrated=True), min_confidence=0.5)
    assert [row.task for row in told.suggested or ()] == [made.unlabeled[1].task, made.unlabeled[3].task]
    assert told.manifest["suggested"]["min_confidence"] == 0.5
    with pytest.raises(ExportError, match=r"needs a labeled control set: .*\(60 control labels so far"):
        with_suggestions(made, found(made, calibrated=False), min_confidence=0.5)
    with pytest.raises(ExportError, match=r"min-confidence is 90\.0; give a share from 0 to 1"):
        with_suggestions(made, found(made, calibrated=True), min_confidence=90.0)

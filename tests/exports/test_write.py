import csv
import io
import json
import os
import resource
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from usl_backend.errors import ExportError
from usl_backend.exports import FORMATS, Row, Split, archive_split, check_export, export_split, read_manifest
from usl_backend.exports.media import local_file

SPLIT = Split(
    labeled=(
        Row(1, 11, "/data/upload/1/b.png", "pick", 0, 'T-shirt, "top"', run="12-7"),
        Row(3, 13, "s3://bucket/d é.png", "outside", None, "Hose\nlang"),
    ),
    unlabeled=(Row(0, 10, "/data/upload/1/a.png"), Row(2, 12, "c,2.png", "reserve", 1, run="12-7")),
    classes=('T-shirt, "top"', "Hose\nlang", "Bag"),
    manifest={"run": "12-7", "seed": 0},
)


def test_export_split__json(tmp_path: Path) -> None:
    directory = export_split(SPLIT, tmp_path / "deep" / "split")
    assert sorted(path.name for path in directory.iterdir()) == [
        "labeled.json",
        "manifest.json",
        "unlabeled.json",
    ]
    keys = ("index", "task", "source", "file", "role", "rank", "run", "label")
    assert json.loads((directory / "labeled.json").read_text("utf-8")) == [
        dict(
            zip(keys, (1, 11, "/data/upload/1/b.png", None, "pick", 0, "12-7", 'T-shirt, "top"'), strict=True)
        ),
        dict(
            zip(keys, (3, 13, "s3://bucket/d é.png", None, "outside", None, None, "Hose\nlang"), strict=True)
        ),
    ]
    assert json.loads((directory / "unlabeled.json").read_text("utf-8")) == [
        {
            "index": 0,
            "task": 10,
            "source": "/data/upload/1/a.png",
            "file": None,
            "role": "pool",
            "rank": None,
            "run": None,
        },
        {
            "index": 2,
            "task": 12,
            "source": "c,2.png",
            "file": None,
            "role": "reserve",
            "rank": 1,
            "run": "12-7",
        },
    ]
    assert json.loads((directory / "manifest.json").read_text("utf-8")) == {
        "kind": "usl-backend export",
        "format": "json",
        "classes": ['T-shirt, "top"', "Hose\nlang", "Bag"],
        "contents": {
            "labeled": 2,
            "unlabeled": 2,
            "per_class": {'T-shirt, "top"': 1, "Hose\nlang": 1, "Bag": 0},
        },
        "labeled_rows_are_also_unlabeled": False,
        "media": {
            "mode": "none",
            "copied": 0,
            "hard_links": 0,
            "symbolic_links": 0,
            "first_of_several": 0,
            "missing": {},
        },
        "usage": {},
        "run": "12-7",
        "seed": 0,
        "rows": [
            {
                "index": 0,
                "task": 10,
                "source": "/data/upload/1/a.png",
                "role": "pool",
                "rank": None,
                "part": "unlabeled",
            },
            {
                "index": 1,
                "task": 11,
                "source": "/data/upload/1/b.png",
                "role": "pick",
                "rank": 0,
                "run": "12-7",
                "part": "labeled",
            },
            {
                "index": 2,
                "task": 12,
                "source": "c,2.png",
                "role": "reserve",
                "rank": 1,
                "run": "12-7",
                "part": "unlabeled",
            },
            {
                "index": 3,
                "task": 13,
                "source": "s3://bucket/d é.png",
                "role": "outside",
                "rank": None,
                "part": "labeled",
            },
        ],
    }


def test_export_split__csv_reads_back(tmp_path: Path) -> None:
    directory = export_split(SPLIT, tmp_path / "split", format="csv")
    with (directory / "labeled.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        ["index", "task", "source", "file", "role", "rank", "run", "label"],
        ["1", "11", "/data/upload/1/b.png", "", "pick", "0", "12-7", 'T-shirt, "top"'],
        ["3", "13", "s3://bucket/d é.png", "", "outside", "", "", "Hose\nlang"],
    ]
    with (directory / "unlabeled.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == [
            ["index", "task", "source", "file", "role", "rank", "run"],
            ["0", "10", "/data/upload/1/a.png", "", "pool", "", ""],
            ["2", "12", "c,2.png", "", "reserve", "1", "12-7"],
        ]
    assert json.loads((directory / "manifest.json").read_text("utf-8"))["format"] == "csv"


def test_export_split__existing_directory_is_refused_and_untouched(tmp_path: Path) -> None:
    target = tmp_path / "split"
    target.mkdir()
    (target / "mine.txt").write_text("precious")
    for force in (False, True):
        with pytest.raises(ExportError, match="exists"):
            export_split(SPLIT, target, force=force)
        assert [(path.name, path.read_text()) for path in target.iterdir()] == [("mine.txt", "precious")]
    assert [path.name for path in tmp_path.iterdir()] == ["split"]


def test_export_split__force_replaces_an_earlier_export_wholly(tmp_path: Path) -> None:
    target = export_split(SPLIT, tmp_path / "split", format="csv")
    with pytest.raises(ExportError, match="--force"):
        export_split(SPLIT, target)
    export_split(SPLIT, target, force=True)
    assert sorted(path.name for path in target.iterdir()) == [
        "labeled.json",
        "manifest.json",
        "unlabeled.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["split"]


def test_export_split__directory_made_meanwhile_is_refused_and_untouched(tmp_path: Path) -> None:
    def fetch(row: Row) -> bytes:
        (tmp_path / "split").mkdir(exist_ok=True)
        (tmp_path / "split" / "thesis.tex").write_text("two years of work", "utf-8")
        return b"\x89PNG"

    with pytest.raises(ExportError, match="split exists; choose another directory"):
        export_split(SPLIT, tmp_path / "split", media="copy", fetch=fetch)
    assert [path.name for path in tmp_path.rglob("*")] == ["split", "thesis.tex"]


def test_export_split__link_to_an_export_is_not_replaced(tmp_path: Path) -> None:
    target = export_split(SPLIT, tmp_path / "split")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(ExportError, match="is not replaced"):
        export_split(SPLIT, tmp_path / "link", force=True)


def test_export_split__failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(split: Split, directory: Path) -> None:
        (directory / "labeled.csv").write_text("half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setitem(FORMATS, "csv", replace(FORMATS["csv"], write=full))
    with pytest.raises(ExportError, match="No space left on device"):
        export_split(SPLIT, tmp_path / "split", format="csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["json", "csv", "mmpretrain", "npy"])
def test_export_split__file_that_can_grow_no_more_leaves_nothing(tmp_path: Path, name: str) -> None:
    """A real failure in the middle of a file, as a full disk or a quota gives."""
    earlier = export_split(SPLIT, tmp_path / "split")
    before = {path.name: path.read_bytes() for path in earlier.iterdir()}
    rows = tuple(Row(index, index, f"{index}.png") for index in range(5_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(ExportError, match="cannot be written"):
            export_split(Split((), rows, ()), tmp_path / "split", format=name, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["split"]
    assert {path.name: path.read_bytes() for path in earlier.iterdir()} == before


def test_export_split__unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="choose another directory"):
        export_split(SPLIT, tmp_path / "file" / "split")
    assert (tmp_path / "file").read_text() == "mine"


def test_export_split__unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match='format is "parquet"; choose one of json, jsonl, csv, torch'):
        export_split(SPLIT, tmp_path / "split", format="parquet")


@pytest.mark.parametrize("name", ["json", "jsonl", "csv", "torch", "mmpretrain", "huggingface", "npy"])
def test_export_split__file_names_that_are_no_utf8(tmp_path: Path, name: str) -> None:
    rows = []
    for row, label in enumerate(("cat", None)):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/na\xef%d.png" % row))
        path.write_bytes(b"\x89PNG")
        rows.append(Row(row, 10 + row, str(path), label=label, key=path.name))
    manifest = {"pool": rows[0].source}
    split = Split(labeled=(rows[0],), unlabeled=(rows[1],), classes=("cat",), manifest=manifest)
    directory = export_split(split, tmp_path / "split", format=name, media="link", fetch=local_file)
    check_export(directory)
    listed = read_manifest(directory)
    assert [row["id"] for row in listed["rows"]] == ["na\\udcef0.png", "na\\udcef1.png"]
    assert listed["pool"] == rows[0].source


def test_archive_split__holds_the_same_files(tmp_path: Path) -> None:
    directory = export_split(SPLIT, tmp_path / "split", format="csv")
    stream = io.BytesIO()
    archive_split(SPLIT, stream, format="csv")
    with zipfile.ZipFile(stream) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.name: path.read_bytes() for path in directory.iterdir()
        }


def test_archive_split__takes_linked_files_of_1970(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG")
    os.utime(path, (0, 0))
    archived = io.BytesIO()
    archive_split(SPLIT, archived, media="link", fetch=lambda row: path)
    assert zipfile.ZipFile(archived).read("media/11.png") == b"\x89PNG"


def test_archive_split__files_are_inside() -> None:
    stream = io.BytesIO()
    archive_split(SPLIT, stream, format="eman", fetch=lambda row: b"\x89PNG" + bytes([row.task]))
    with zipfile.ZipFile(stream) as archive:
        assert archive.read("train/c0/c0_11.png") == b"\x89PNG\x0b"
        assert archive.read("train/unlabeled/unlabeled_10.png") == b"\x89PNG\x0a"


def test_archive_split__format_that_needs_files_is_refused_without() -> None:
    with pytest.raises(ExportError, match="--media link"):
        archive_split(SPLIT, io.BytesIO(), format="huggingface")

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from usl_backend.errors import ExportError
from usl_backend.exports import FORMATS, Split, check_export, export_split, local_file

MakeSplit = Callable[..., Split]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "semilearn-text"])
def test_check_export__lost_file(make_split: MakeSplit, tmp_path: Path, name: str) -> None:
    directory = export_split(make_split(), tmp_path / "out", format=name, media="copy", fetch=local_file)
    next(path for path in sorted(directory.rglob("*98.png"))).unlink()
    with pytest.raises(ExportError, match=r"98\.png|sorted folder|without metadata|train/c0 is missing"):
        check_export(directory)


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "match"),
    [
        ("csv", "labeled.csv", "Bag/Tasche", "Bag", "label 'Bag' is not a class"),
        ("csv", "labeled.csv", "Bag/Tasche", "nobody chose", "per_class is"),
        ("jsonl", "unlabeled.jsonl", "\n", "\nnot json\n", "cannot be read as jsonl"),
        ("json", "unlabeled.json", "media/100.png", "media/99.png", "1 rows are in both parts"),
        (
            "torch",
            "torch_split.py",
            "import csv",
            "import os",
            "torch_split.py is missing, or differs from the loader of this release",
        ),
        ("semilearn", "u_train.txt", " -1", " 2", "u_train.txt holds a class"),
        ("semilearn", "l_train.txt", "media/99.png 3\n", "", "labeled is 2, but manifest.json says 3"),
        (
            "mmpretrain",
            "labeled.txt",
            "media/99.png 3",
            "media/99.png 1",
            "labeled.json and labeled.txt differ",
        ),
        (
            "eman",
            "indexes/train_43p_gen_usl_index.csv",
            "0,c0",
            "1,c0",
            "but another file in the sorted folder",
        ),
        ("names", "subsets/57percent.txt", "c0_98", "c1_98", "per_class is"),
        ("huggingface", "labeled/metadata.jsonl", "98.png", "97.png", "2 files without metadata"),
    ],
)
def test_check_export__changed_afterwards(
    make_split: MakeSplit, tmp_path: Path, name: str, file: str, old: str, new: str, match: str
) -> None:
    directory = export_split(make_split(), tmp_path / "out", format=name, media="copy", fetch=local_file)
    check_export(directory)
    edit(directory / file, old, new)
    with pytest.raises(ExportError, match=match):
        check_export(directory)


def test_check_export__picture_that_was_moved(make_split: MakeSplit, tmp_path: Path) -> None:
    """ImageFolder takes the class from the folder and the index from the order: both are noticed."""
    directory = export_split(make_split(), tmp_path / "out", format="eman", media="copy", fetch=local_file)
    train = directory / "train"
    (train / "c2" / "c2_filler.png").rename(train / "c3" / "c2_filler.png")
    with pytest.raises(ExportError, match="train/c2 is missing, empty or unexpected"):
        check_export(directory)
    (train / "c3" / "c2_filler.png").rename(train / "c2" / "c2_filler.png")
    check_export(directory)
    (train / "c0" / "c0_98.png").rename(train / "unlabeled" / "z.png")
    with pytest.raises(ExportError, match="but another file in the sorted folder"):
        check_export(directory)


def test_check_export__npy_of_another_split(make_split: MakeSplit, tmp_path: Path) -> None:
    import numpy as np

    directory = export_split(make_split(), tmp_path / "out", format="npy")
    path = directory / "indices" / "project-12" / "usl_selected_3.npy"
    np.save(path, np.array([1, 2, 7]))
    with pytest.raises(ExportError, match="an index is outside the 7 rows"):
        check_export(directory)
    np.save(path, np.array([1.0, 2.0, 5.0]))
    with pytest.raises(ExportError, match="holds float64"):
        check_export(directory)
    np.save(path, np.array([1, 2]))
    with pytest.raises(ExportError, match="has 2 rows, but num_labeled is 3"):
        check_export(directory)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"kind": "something else"}'])
def test_check_export__not_ours(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ExportError, match="is not an export of usl-backend"):
        check_export(tmp_path)


def test_check_export__format_of_a_later_release(make_split: MakeSplit, tmp_path: Path) -> None:
    directory = export_split(make_split(), tmp_path / "out")
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps({**manifest, "format": "parquet"}))
    with pytest.raises(ExportError, match="'parquet', which this release does not support"):
        check_export(directory)

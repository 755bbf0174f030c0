"""Every format, written and read back the way its consumer does; files are told apart by their content."""

import contextlib
import csv
import importlib.util
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from usl_backend.errors import ExportError
from usl_backend.exports import FORMATS, Row, Split, archive_split, check_export, export_split, local_file
from usl_backend.exports.check import read_manifest
from usl_backend.exports.formats import Format, formats_for
from usl_backend.instances import Modality

MakeSplit = Callable[..., Split]

PICTURES = [name for name in FORMATS if name != "semilearn-text"]
"""Formats whose rows may be files."""


def opened(path: Path) -> int:
    """Which of the fixture's pictures a file is, by its red value."""
    with Image.open(path) as picture:
        return round(picture.convert("RGB").getpixel((0, 0))[0] / 30)


def module(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def image_folder_class() -> Any:
    """torchvision's ImageFolder; beside a torch for CPUs its extension lacks the operators that it registers."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in (
        "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ):
        with contextlib.suppress(RuntimeError):
            library.define(schema)
    from torchvision.datasets import ImageFolder

    return ImageFolder


@pytest.mark.parametrize("include_labeled", [False, True])
@pytest.mark.parametrize("media", ["copy", "link"])
@pytest.mark.parametrize("name", PICTURES)
def test_formats__contents_are_the_split(
    make_split: MakeSplit, tmp_path: Path, name: str, media: str, include_labeled: bool
) -> None:
    split = make_split(include_labeled=include_labeled)
    directory = export_split(split, tmp_path / "out", format=name, media=media, fetch=local_file)
    contents = FORMATS[name].read(directory, read_manifest(directory))
    labeled = sorted((opened(directory / path), labels) for path, labels in contents.labeled)
    assert labeled == [(row.index, (row.label,)) for row in split.labeled]
    assert sorted(opened(directory / path) for path in contents.unlabeled) == [
        r.index for r in split.unlabeled
    ]
    checked = check_export(directory)
    assert (checked.labeled, checked.unlabeled) == (3, 7 if include_labeled else 4)
    assert checked.per_class == {
        split.classes[0]: 1,
        split.classes[1]: 0,
        split.classes[2]: 0,
        split.classes[3]: 2,
    }
    assert checked.files == (10 if include_labeled and name == "huggingface" else 7)
    assert read_manifest(directory)["labeled_rows_are_also_unlabeled"] is include_labeled


@pytest.mark.parametrize("name", ["json", "jsonl", "csv", "torch", "npy", "semilearn-text"])
def test_formats__any_source_can_be_listed(make_split: MakeSplit, tmp_path: Path, name: str) -> None:
    split = replace(make_split(), modality="image" if "image" in FORMATS[name].shows else "text")
    directory = export_split(split, tmp_path / "out", format=name)
    contents = FORMATS[name].read(directory, read_manifest(directory))
    assert sorted(contents.labeled) == sorted((row.source, (row.label,)) for row in split.labeled)
    assert list(contents.unlabeled) == [row.source for row in split.unlabeled]
    assert check_export(directory).files == 0
    assert not any(path.suffix == ".png" for path in directory.rglob("*"))


@pytest.mark.parametrize("name", ["eman", "names", "semilearn", "mmpretrain", "huggingface"])
def test_formats__sources_that_a_list_cannot_hold_are_refused(
    make_split: MakeSplit, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ExportError, match="--media link"):
        export_split(make_split(), tmp_path / "out", format=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", PICTURES)
def test_formats__nothing_labeled(make_split: MakeSplit, tmp_path: Path, name: str) -> None:
    full = make_split()
    split = Split((), full.unlabeled, full.classes, full.manifest)
    directory = export_split(split, tmp_path / "out", format=name, fetch=local_file)
    checked = check_export(directory)
    assert (checked.labeled, checked.unlabeled, sum(checked.per_class.values())) == (0, 4, 0)


def test_eman__index_is_the_place_in_the_sorted_folder(make_split: MakeSplit, tmp_path: Path) -> None:
    directory = export_split(make_split(), tmp_path / "out", format="eman", fetch=local_file)
    assert sorted(path.name for path in (directory / "indexes").iterdir()) == [
        "train_43p_gen_usl_index.csv",
        "train_57p_gen_usl_index.csv",
    ]
    lines = (directory / "indexes" / "train_43p_gen_usl_index.csv").read_text().splitlines()
    # The fillers of c1 and c2 have the places 1 and 2; no list names them.
    assert lines == ["Index,ImageID", "0,c0_98.png", "3,c3_95.png", "4,c3_99.png"]
    assert sorted(path.name for path in (directory / "train").iterdir()) == [
        "c0",
        "c1",
        "c2",
        "c3",
        "unlabeled",
    ]
    others = (directory / "indexes" / "train_57p_gen_usl_index.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in others] == ["Index", "5", "6", "7", "8"]


def test_eman__real_image_folder_gives_the_classes(make_split: MakeSplit, tmp_path: Path) -> None:
    """EMAN's ImageFolderWithIndex, over the real torchvision."""
    folder_class = image_folder_class()
    split = make_split()
    directory = export_split(split, tmp_path / "out", format="eman", fetch=local_file)
    usage = read_manifest(directory)["usage"]
    folder = folder_class(directory / "train")
    assert folder.classes == ["c0", "c1", "c2", "c3", "unlabeled"]
    for key, rows in (("trainindex_x", split.labeled), ("trainindex_u", split.unlabeled)):
        with (directory / "indexes" / usage[key]).open() as stream:
            places = [int(entry["Index"]) for entry in csv.DictReader(stream)]
        seen = {opened(Path(path)): target for path, target in (folder.samples[place] for place in places)}
        assert seen == {row.index: split.places.get(row.label, 4) for row in rows}


def test_eman__imagenet_is_listed_as_it_lies(tmp_path: Path) -> None:
    names = ["n01/n01_5.JPEG", "n02/n02_1.JPEG", "n01/n01_40.JPEG", "n02/n02_3.JPEG"]
    rows = [Row(i, 10 + i, f"/imagenet/train/{name}") for i, name in enumerate(names)]
    labeled = (Row(1, 11, rows[1].source, label="n02"), Row(2, 12, rows[2].source, label="n01"))
    split = Split(labeled, (rows[0], rows[3]), ("n01", "n02"))
    directory = export_split(split, tmp_path / "out", format="eman")
    with (directory / "indexes" / "train_50p_gen_usl_index.csv").open() as stream:
        assert list(csv.reader(stream)) == [["Index", "ImageID"], ["0", "n01_40.JPEG"], ["2", "n02_1.JPEG"]]
    assert check_export(directory).per_class == {"n01": 1, "n02": 1}
    names_directory = export_split(split, tmp_path / "names", format="names")
    assert (names_directory / "subsets" / "50percent.txt").read_text() == "n02_1.JPEG\nn01_40.JPEG\n"


def test_eman__folder_and_label_that_differ_are_refused(tmp_path: Path) -> None:
    split = Split((Row(0, 1, "/data/cat/cat_1.png", label="dog"),), (), ("cat", "dog"))
    with pytest.raises(ExportError, match=r"'/data/cat/cat_1.png' is labeled 'dog'"):
        export_split(split, tmp_path / "out", format="eman")


def test_names__paws_finds_its_file_and_row_indices(make_split: MakeSplit, tmp_path: Path) -> None:
    directory = export_split(make_split(), tmp_path / "out", format="names", fetch=local_file)
    usage = read_manifest(directory)["usage"]
    # As src/data_manager.py of PAWS makes the name.
    name = f"{int(usage['unlabeled_frac'] * 100)}percent.txt"
    assert (directory / "subsets" / name).read_text() == "c3_99.png\nc0_98.png\nc3_95.png\n"
    assert (directory / "subsets" / "spc.4000_split.3.txt").read_text() == "1\n2\n5\n"


@pytest.mark.parametrize("labeled", range(1, 100))
def test_names__percent_survives_the_reader_s_arithmetic(tmp_path: Path, labeled: int) -> None:
    rows = [Row(i, i, f"/d/a/a_{i}.png", label="a" if i < labeled else None) for i in range(100)]
    split = Split(tuple(rows[:labeled]), tuple(rows[labeled:]), ("a",))
    usage = FORMATS["names"].write(split, tmp_path)
    assert int(usage["unlabeled_frac"] * 100) == 100 - labeled
    assert (tmp_path / "subsets" / f"{100 - labeled}percent.txt").read_text().count("\n") == labeled


def test_npy__name_length_and_targets(make_split: MakeSplit, tmp_path: Path) -> None:
    directory = export_split(make_split(), tmp_path / "out", format="npy")
    folder = directory / "indices" / "project-12"
    assert np.load(folder / "usl_selected_3.npy").tolist() == [2, 5, 1]
    assert np.load(folder / "unlabeled.npy").tolist() == [0, 3, 4, 6]
    assert np.load(folder / "targets.npy").tolist() == [-1, 3, 0, -1, -1, 3, -1]
    labels = [json.loads(line) for line in (folder / "classes.txt").read_text("utf-8").split("\n")[:-1]]
    assert tuple(labels) == make_split().classes


def test_npy__ranks_of_earlier_runs_come_first(tmp_path: Path) -> None:
    places = [(None, None), ("12-10", 0), ("12-9", 1), ("12-9", 0), ("12-10", 1)]
    rows = tuple(
        Row(index, 10 + index, f"{index}.png", "pick", rank, "x", run=run)
        for index, (run, rank) in enumerate(places)
    )
    export_split(Split(rows, (), ("x",), {"project": {"id": 12}}), tmp_path / "out", format="npy")
    found = np.load(tmp_path / "out" / "indices" / "project-12" / "usl_selected_5.npy")
    assert found.tolist() == [3, 2, 1, 4, 0]


def test_torch__loader_gives_pictures_and_classes(make_split: MakeSplit, tmp_path: Path) -> None:
    from torch.utils.data import DataLoader

    directory = export_split(make_split(), tmp_path / "out", format="torch", fetch=local_file)
    loader = module(directory / "torch_split.py", "torch_split")
    labeled = loader.LabeledRows(directory, transform=lambda picture: np.asarray(picture)[0, 0, 0])
    assert labeled.classes == list(make_split().classes)
    assert labeled.targets == [3, 0, 3]
    reds, targets = next(iter(DataLoader(labeled, batch_size=3)))
    assert [round(int(red) / 30) for red in reds] == [1, 2, 5]
    assert targets.tolist() == [3, 0, 3]
    unlabeled = loader.UnlabeledRows(directory)
    assert [opened(unlabeled.path(place)) for place in range(len(unlabeled))] == [0, 3, 4, 6]
    assert unlabeled[1].mode == "RGB"


def test_torch__root_leads_to_listed_sources(pictures: list[Path], tmp_path: Path) -> None:
    rows = (Row(0, 1, pictures[1].name, label="a"), Row(1, 2, pictures[4].name))
    directory = export_split(Split(rows[:1], rows[1:], ("a",)), tmp_path / "out", format="torch")
    loader = module(directory / "torch_split.py", "torch_split_rooted")
    assert opened(loader.UnlabeledRows(directory, root=pictures[0].parent).path(0)) == 4


def test_semilearn__lists_and_loader(
    make_split: MakeSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = export_split(make_split(), tmp_path / "out", format="semilearn", fetch=local_file)
    assert (directory / "l_train.txt").read_text() == "media/99.png 3\nmedia/98.png 0\nmedia/95.png 3\n"
    assert (directory / "u_train.txt").read_text().splitlines()[0] == "media/100.png -1"
    compile((directory / "semilearn_split.py").read_text(), "semilearn_split.py", "exec")


def test_mmpretrain__paths_with_blanks_survive_the_reader_s_cut(tmp_path: Path) -> None:
    split = Split((Row(0, 1, "a folder/b 3.png", label="y"),), (Row(1, 2, "c d.png"),), ("x", "y"))
    directory = export_split(split, tmp_path / "out", format="mmpretrain")
    # As CustomDataset.load_data_list cuts a line.
    assert (directory / "labeled.txt").read_text().strip().rsplit(" ", 1) == ["a folder/b 3.png", "1"]
    assert json.loads((directory / "labeled.json").read_text()) == {
        "metainfo": {"classes": ["x", "y"]},
        "data_list": [{"img_path": "a folder/b 3.png", "gt_label": 1}],
    }
    assert check_export(directory).per_class == {"x": 0, "y": 1}


def test_huggingface__metadata_beside_the_files(make_split: MakeSplit, tmp_path: Path) -> None:
    directory = export_split(make_split(), tmp_path / "out", format="huggingface", fetch=local_file)
    lines = (directory / "labeled" / "metadata.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[0]) == {
        "file_name": "99.png",
        "label": 3,
        "task": 99,
        "role": "pool",
        "rank": -1,
        "run": "",
    }
    assert sorted(path.name for path in (directory / "labeled").iterdir()) == [
        "95.png",
        "98.png",
        "99.png",
        "metadata.jsonl",
    ]


SEVERAL = Split(
    (
        Row(0, 10, "one, two", "pick", 1, labels=("a", "b/c"), run="12-7"),
        Row(2, 12, 'said "so"\nand so', "pick", 0, "a", run="12-7"),
    ),
    (Row(1, 11, "three"),),
    ("a", "b/c", "d"),
    modality="text",
)
ABLE = ("json", "jsonl", "csv", "huggingface")


@pytest.mark.parametrize("name", ABLE)
def test_formats__several_classes_of_a_task(tmp_path: Path, name: str) -> None:
    directory = export_split(SEVERAL, tmp_path / "out", format=name)
    contents = FORMATS[name].read(directory, read_manifest(directory))
    assert contents.labeled == (("one, two", ("a", "b/c")), ('said "so"\nand so', ("a",)))
    assert contents.unlabeled == ("three",)
    checked = check_export(directory)
    assert (checked.labeled, checked.unlabeled, checked.per_class) == (2, 1, {"a": 2, "b/c": 1, "d": 0})


def test_formats__several_classes_as_written(tmp_path: Path) -> None:
    written = {name: export_split(SEVERAL, tmp_path / name, format=name) for name in ABLE}
    rows = json.loads((written["json"] / "labeled.json").read_text("utf-8"))
    assert [(row["label"], row["labels"]) for row in rows] == [(None, ["a", "b/c"]), ("a", ["a"])]
    with (written["csv"] / "labeled.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["label"], row["labels"]) for row in rows] == [("", '["a", "b/c"]'), ("a", '["a"]')]
    lines = (written["huggingface"] / "labeled.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[0]) == {
        "text": "one, two", "labels": [0, 1], "task": 10, "role": "pick", "rank": 1, "run": "12-7",
    }  # fmt: skip
    assert json.loads((written["huggingface"] / "unlabeled.jsonl").read_text("utf-8"))["labels"] == [-1]


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ABLE])
def test_formats__those_of_one_class_refuse_several_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ExportError) as raised:
        export_split(SEVERAL, tmp_path / "deep" / "out", format=name)
    assert str(raised.value) == (
        f"format {name} holds one class per task, but task 10 has 2 (a, b/c); "
        "json, jsonl, csv and huggingface hold several"
    )
    with pytest.raises(ExportError, match="task 10 has 2"):
        archive_split(SEVERAL, io.BytesIO(), format=name)
    assert list(tmp_path.iterdir()) == []
    # The classes of the others fit.
    export_split(replace(SEVERAL, labeled=SEVERAL.labeled[1:]), tmp_path / "out", format="npy")


BOXES = Split(
    (Row(0, 10, "a.png", "pick", 0), Row(2, 12, "c.png", "pick", 1)),
    (Row(1, 11, "b.png"),),
    (),
    {"asks_for": "RectangleLabels"},
    holds="annotations",
    annotations={10: '[{"id": 5, "result": [{"value": {"x": 1.5}}]}]', 12: "[]"},
)


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_formats__annotations_go_out_as_they_are(tmp_path: Path, name: str) -> None:
    directory = export_split(BOXES, tmp_path / "out", format=name)
    text = (directory / f"labeled.{name}").read_text("utf-8")
    rows = json.loads(text) if name == "json" else [json.loads(line) for line in text.splitlines()]
    assert [(row["task"], row["label"], row["annotations"]) for row in rows] == [
        (10, None, [{"id": 5, "result": [{"value": {"x": 1.5}}]}]),
        (12, None, []),
    ]
    checked = check_export(directory)
    assert (checked.labeled, checked.unlabeled, checked.per_class) == (2, 1, {})


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("json", "jsonl")])
def test_formats__those_of_classes_refuse_annotations_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ExportError) as raised:
        export_split(BOXES, tmp_path / "out", format=name)
    assert str(raised.value) == (
        f"format {name} holds classes, but the label config asks for RectangleLabels; json and jsonl hold what "
        "annotators made of that"
    )
    assert list(tmp_path.iterdir()) == []


def test_formats__every_one_says_who_reads_it() -> None:
    for name, entry in FORMATS.items():
        assert isinstance(entry, Format)
        assert entry.summary, name


def test_loaders__python_can_read_them() -> None:
    from usl_backend.exports import loaders

    texts = sorted((Path(loaders.__file__).parent / "templates").glob("*.txt"))
    assert [path.name for path in texts] == [
        "semilearn_split.py.txt",
        "semilearn_texts.py.txt",
        "torch_split.py.txt",
    ]
    for path in texts:
        compile(path.read_text(encoding="utf-8"), path.name, "exec")


def test_local_file__missing_source_is_named_in_the_manifest(make_split: MakeSplit, tmp_path: Path) -> None:
    split = make_split()
    Path(split.labeled[0].source).unlink()
    directory = export_split(split, tmp_path / "out", format="csv", media="link", fetch=local_file)
    manifest = read_manifest(directory)
    assert list(manifest["media"]["missing"]) == ["99"]
    assert manifest["contents"] == {
        "labeled": 2,
        "unlabeled": 4,
        "per_class": {split.classes[0]: 1, split.classes[1]: 0, split.classes[2]: 0, split.classes[3]: 1},
    }
    assert check_export(directory).labeled == 2


def test_semilearn_text__files_are_no_texts(make_split: MakeSplit, tmp_path: Path) -> None:
    split = replace(make_split(), modality="text")
    with pytest.raises(ExportError, match="use --media none"):
        export_split(split, tmp_path / "out", format="semilearn-text", media="copy", fetch=local_file)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("modality", ["image", "text"])
def test_export_split__of_what_its_consumer_cannot_read_is_refused(
    make_split: MakeSplit, tmp_path: Path, name: str, modality: Modality
) -> None:
    split = replace(make_split(), modality=modality)
    if modality in FORMATS[name].shows:
        media = "none" if modality == "text" else "copy"
        assert export_split(split, tmp_path / "out", format=name, media=media, fetch=local_file).is_dir()
        return
    able = ", ".join(formats_for("class", modality))
    with pytest.raises(
        ExportError, match=f"but the rows of this split are {modality}s .* choose one of {able}"
    ):
        export_split(split, tmp_path / "out", format=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("labeled", "wanted"), [(0, 4), (3, 4), (4, 4), (5, 8)])
def test_npy__number_that_torchssl_insists_on(tmp_path: Path, labeled: int, wanted: int) -> None:
    rows = tuple(Row(index, index, f"{index}.png", label="a") for index in range(labeled))
    directory = export_split(Split(rows, (), ("a", "b", "c", "d")), tmp_path / "out", format="npy")
    assert read_manifest(directory)["usage"]["num_labels_that_divides"] == wanted


@pytest.mark.parametrize("name", ["json", "jsonl", "csv"])
def test_export_split__a_task_with_several_pictures_lists_them_all(
    name: str, make_split: MakeSplit, pictures: list[Path], tmp_path: Path
) -> None:
    split = make_split()
    several = replace(split.labeled[0], more=("/b, 2.png", "/c.png"))
    split = replace(split, labeled=(several, *split.labeled[1:]))
    target = export_split(split, tmp_path / "out", format=name, media="copy", fetch=local_file)
    check_export(target)
    text = (target / f"labeled.{name}").read_text(encoding="utf-8")
    if name == "csv":
        rows = list(csv.DictReader(text.splitlines(keepends=True)))
        found = [json.loads(row["sources"]) for row in rows[:1]]
    else:
        rows = json.loads(text) if name == "json" else [json.loads(line) for line in text.split("\n") if line]
        found = [row["sources"] for row in rows if "sources" in row]
    assert found == [list(several.sources)]
    assert rows[0]["source"] == several.source
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    assert [row["sources"] for row in manifest["rows"] if "sources" in row] == found
    assert manifest["media"]["first_of_several"] == 1


def test_export_split__several_texts_are_one_text_for_semilearn(tmp_path: Path) -> None:
    rows = (Row(0, 4, "one", label="a", more=("two",)), Row(1, 5, "three"))
    split = Split(rows[:1], rows[1:], ("a",), modality="text")
    target = export_split(split, tmp_path / "out", format="semilearn-text")
    assert json.loads((target / "labeled.json").read_text())["0"]["ori"] == "one\ntwo"

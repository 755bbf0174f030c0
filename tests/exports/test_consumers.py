"""Exports in the hands of those who read them: semilearn 0.3.2, mmpretrain 1.2.0 and datasets from PyPI.

The first two are installed without what they pull in (wandb, timm, mmcv, ...): their packages are entered below
`__init__`, so that the readers themselves are the real ones and nothing else runs.
"""

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from usl_backend.exports import Split, export_split, local_file

MakeSplit = Callable[..., Split]

ENTER = """
import json, sys, types
from usl_backend.encoders.vision import import_torchvision
import_torchvision()
place, directory = sys.argv[1:3]
sys.path[:0] = [place, directory]
def enter(*names):
    for name in names:
        module = types.ModuleType(name)
        module.__path__ = [place + "/" + name.replace(".", "/")]
        sys.modules[name] = module
def red(picture):
    return round(picture.convert("RGB").getpixel((0, 0))[0] / 30)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("consumers")
    wanted = ["semilearn==0.3.2", "mmpretrain==1.2.0", "mmengine", "addict", "yapf", "termcolor"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place)]
    subprocess.run([*pip, *wanted], check=True, timeout=240)
    return place


def told(script: str, place: Path, directory: Path) -> Any:
    command = [sys.executable, "-W", "ignore", "-c", ENTER + script, str(place), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_semilearn__reader_of_lists_and_our_loader(
    make_split: MakeSplit, tmp_path: Path, installed: Path
) -> None:
    split = make_split()
    directory = export_split(split, tmp_path / "out", format="semilearn", fetch=local_file)
    script = """
enter("semilearn", "semilearn.datasets", "semilearn.datasets.cv_datasets")
from semilearn.datasets.cv_datasets.aves import iNatDataset, make_dataset
listed = [make_dataset(directory, name, task="")[0] for name in ("l_train", "u_train")]
aves = iNatDataset("supervised", directory, "l_train", task="", transform=red)
from semilearn_split import get_split
labeled, unlabeled = get_split("fixmatch", directory, red, red)
both = get_split("fixmatch", directory, red, red, include_labeled=True)[1]
print(json.dumps({
    "aves": [aves[i] for i in range(len(aves))],
    "unlabeled_list": [target for _, target in listed[1]],
    "labeled": [labeled[i] for i in range(len(labeled))],
    "unlabeled": [unlabeled[i] for i in range(len(unlabeled))],
    "both": [both[i]["x_ulb_w"] for i in range(len(both))],
    "classes": labeled.num_classes,
}))
"""
    seen = told(script, installed, directory)
    wanted = [(row.index, split.places[str(row.label)]) for row in split.labeled]
    rest = [row.index for row in split.unlabeled]
    assert [(entry["x_lb"], entry["y_lb"]) for entry in seen["aves"]] == wanted
    assert [(entry["x_lb"], entry["y_lb"]) for entry in seen["labeled"]] == wanted
    assert seen["unlabeled"] == [{"idx_ulb": i, "x_ulb_w": row, "x_ulb_s": row} for i, row in enumerate(rest)]
    assert seen["unlabeled_list"] == [-1] * 4
    assert seen["both"] == [*(row for row, _ in wanted), *rest]
    assert seen["classes"] == 4


def test_semilearn__split_ssl_data_takes_our_indices(
    make_split: MakeSplit, tmp_path: Path, installed: Path
) -> None:
    split = make_split()
    directory = export_split(split, tmp_path / "out", format="npy")
    script = """
import numpy as np
enter("semilearn", "semilearn.datasets")
from semilearn.datasets.utils import split_ssl_data
folder = directory + "/indices/project-12/"
targets = np.load(folder + "targets.npy")
total = json.load(open(directory + "/manifest.json"))["usage"]["num_labels_that_divides"]
args = types.SimpleNamespace(dataset="ours", num_labels=total, lb_imb_ratio=1, ulb_imb_ratio=1, seed=0)
parts = split_ssl_data(args, np.arange(7), targets, 4, total, lb_index=np.load(folder + "usl_selected_3.npy"),
    ulb_index=np.load(folder + "unlabeled.npy"), include_lb_to_ulb=False)
print(json.dumps([part.tolist() for part in parts]))
"""
    data, targets, others, unknown = told(script, installed, directory)
    assert dict(zip(data, targets, strict=True)) == {
        row.index: split.places[str(row.label)] for row in split.labeled
    }
    assert others == [row.index for row in split.unlabeled]
    assert unknown == [-1] * 4


def test_semilearn__texts(make_split: MakeSplit, tmp_path: Path, installed: Path) -> None:
    """The sources stand for texts: commas, line breaks and all kinds of letters."""
    split = replace(make_split(), modality="text")
    directory = export_split(split, tmp_path / "out", format="semilearn-text")
    script = """
enter("semilearn", "semilearn.datasets", "semilearn.datasets.nlp_datasets")
from semilearn_texts import get_split
labeled, unlabeled = get_split("fixmatch", directory)
both = get_split("fixmatch", directory, include_labeled=True)[1]
print(json.dumps([[part[i] for i in range(len(part))] for part in (labeled, unlabeled, both)]))
"""
    labeled, unlabeled, both = told(script, installed, directory)
    assert [(entry["text"], entry["label"]) for entry in labeled] == [
        (row.source, split.places[str(row.label)]) for row in split.labeled
    ]
    sources = [row.source for row in split.unlabeled]
    assert [(entry["text"], entry["text_s"]) for entry in unlabeled] == [(text, text) for text in sources]
    assert [entry["text"] for entry in both] == [*(row.source for row in split.labeled), *sources]


def test_mmpretrain__custom_dataset(make_split: MakeSplit, tmp_path: Path, installed: Path) -> None:
    split = make_split()
    directory = export_split(split, tmp_path / "out", format="mmpretrain", fetch=local_file)
    script = """
from PIL import Image
enter("mmpretrain", "mmpretrain.datasets")
from mmpretrain.datasets.custom import CustomDataset
from mmpretrain.datasets.base_dataset import BaseDataset
usage = json.load(open(directory + "/manifest.json"))["usage"]
found = {}
for part in ("labeled", "unlabeled"):
    words = {key: value for key, value in usage[part].items() if key != "type"}
    data = CustomDataset(data_root=directory, **words)
    infos = [data.get_data_info(i) for i in range(len(data))]
    found[part] = [[red(Image.open(info["img_path"])), info.get("gt_label")] for info in infos]
    data = BaseDataset(ann_file=part + ".json", data_root=directory)
    infos = [data.get_data_info(i) for i in range(len(data))]
    found[part + " json"] = [[red(Image.open(info["img_path"])), info.get("gt_label")] for info in infos]
    found["classes"] = list(data.CLASSES)
print(json.dumps(found))
"""
    seen = told(script, installed, directory)
    assert seen["classes"] == list(split.classes)
    for suffix in ("", " json"):
        assert seen[f"labeled{suffix}"] == [
            [row.index, split.places[str(row.label)]] for row in split.labeled
        ]
        assert seen[f"unlabeled{suffix}"] == [[row.index, None] for row in split.unlabeled]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_huggingface__load_dataset(make_split: MakeSplit, tmp_path: Path) -> None:
    """The real `datasets`, in an environment of its own, since it brings 400 MB."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "datasets>=4", "pillow"], check=True)
    split = make_split()
    directory = export_split(split, tmp_path / "out", format="huggingface", fetch=local_file)
    script = """
import json, sys
from datasets import ClassLabel, load_dataset
classes = json.load(open(sys.argv[1] + "/manifest.json"))["classes"]
found = load_dataset(sys.argv[1], cache_dir=sys.argv[2]).cast_column("label", ClassLabel(names=classes))
print(json.dumps({part: [
    [round(row["image"].convert("RGB").getpixel((0, 0))[0] / 30), row["label"], row["task"], row["role"], row["rank"]]
    for row in rows] for part, rows in found.items()} | {"names": found["labeled"].features["label"].names}))
"""
    command = [python, "-c", script, str(directory), str(tmp_path / "cache")]
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["names"] == list(split.classes)
    for part, rows in (("labeled", split.labeled), ("unlabeled", split.unlabeled)):
        assert sorted(seen[part]) == [
            [
                row.index,
                -1 if row.label is None else split.places[row.label],
                row.task,
                row.role,
                -1 if row.rank is None else row.rank,
            ]
            for row in rows
        ]

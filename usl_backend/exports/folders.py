"""Formats by class folders: EMAN's index pair and the name lists of PAWS and SimCLRv2. Nothing is drawn at random.

Both consumers take a class from the name of a folder or a file, and EMAN a row from its place in the sorted folder,
so the files are laid out anew: `train/c03/c03_4711.png` is task 4711 of the fourth class, and the rows without a
label are in `train/unlabeled`, which sorts behind all classes. ImageFolder numbers the folders that it finds and, in
recent releases, refuses an empty one: a class without labels gets a filler, a picture that no list names.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from usl_backend.errors import ExportError
from usl_backend.exports.split import Contents, Row, Split, Usage

if TYPE_CHECKING:
    from usl_backend.exports.media import Layout, Part

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What torchvision's ImageFolder takes for a picture."""
UNLABELED = "unlabeled"


def by_class(split: Split) -> Layout:
    """Folder and name by class; a labeled row has one place, also where it counts as unlabeled too."""
    folders = class_folders(split)
    labels = {row.task: str(row.label) for row in split.labeled}

    def place(row: Row, part: Part) -> str:  # noqa: ARG001 - the same in both
        folder = folders[labels[row.task]] if row.task in labels else UNLABELED
        return f"train/{folder}/{folder}_{row.task}"

    return place


def class_folders(split: Split) -> dict[str, str]:
    """Class -> its folder; sorting the folders gives the classes' own order."""
    width = len(str(max(len(split.classes) - 1, 1)))
    return {name: f"c{place:0{width}d}" for name, place in split.places.items()}


def write_eman(split: Split, directory: Path) -> Usage:
    """Write `indexes/train_{p}p_gen_{name}_index.csv` and its complement with the columns `Index,ImageID`.

    `Index` is the row's place in the ImageFolder of all files, sorted as torchvision sorts them.

    Raises
    ------
    ExportError
        No files are laid out and the sources do not name their classes, or a file is none that ImageFolder reads.
    """
    folders = _folders_in_use(split)
    paths = {row.path for row in (*split.labeled, *split.unlabeled)}
    fillers = fill_empty_classes(split, directory)
    paths.update(fillers)
    for path in paths:
        if not path.lower().endswith(SUFFIXES):
            raise ExportError(f"ImageFolder passes over {path!r}; it reads {', '.join(SUFFIXES)}")
    order = sorted(paths, key=lambda path: (PurePosixPath(path).parent.as_posix(), PurePosixPath(path).name))
    places = {path: place for place, path in enumerate(order)}
    total = len(order) - len(fillers)
    share = float(f"{100 * len(split.labeled) / max(total, 1):.2g}")
    name = f"p_gen_{split.manifest.get('method', 'usl')}_index.csv"
    names = {"trainindex_x": f"train_{share:g}{name}", "trainindex_u": f"train_{100 - share:g}{name}"}
    if len(set(names.values())) == 1:  # half and half
        names["trainindex_u"] = f"train_{share:g}u{name}"
    (directory / "indexes").mkdir()
    for file, rows in zip(names.values(), (split.labeled, split.unlabeled), strict=True):
        with (directory / "indexes" / file).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("Index", "ImageID"))
            writer.writerows(sorted((places[row.path], PurePosixPath(row.path).name) for row in rows))
    return {**names, "folders": folders, "files": len(order), "fillers": fillers}


def fill_empty_classes(split: Split, directory: Path) -> list[str]:
    """Give every class without a label its folder and a picture; nothing where only sources are listed.

    Returns
    -------
    list of str
        Paths of the pictures, inside the export.
    """
    spare = next((row.file for row in (*split.unlabeled, *split.labeled) if row.file is not None), None)
    if spare is None:
        return []
    used = {row.label for row in split.labeled}
    fillers = []
    for name, folder in class_folders(split).items():
        if name not in used:
            path = directory / "train" / folder / f"{folder}_filler{PurePosixPath(spare).suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / spare, path)
            fillers.append(path.relative_to(directory).as_posix())
    return fillers


def read_eman(directory: Path, manifest: Usage) -> Contents:
    """What EMAN's ImageFolderWithIndex makes of both files; without files, the names they list."""
    usage = manifest["usage"]
    inside = (directory / "train").is_dir()
    files = list(image_folder(directory / "train")) if inside else []
    parts: list[list[str]] = []
    for key in ("trainindex_x", "trainindex_u"):
        parts.append([])
        with (directory / "indexes" / usage[key]).open(encoding="utf-8", newline="") as stream:
            for entry in csv.DictReader(stream):
                place, name = int(entry["Index"]), entry["ImageID"]
                if not 0 <= place < usage["files"] or (inside and PurePosixPath(files[place]).name != name):
                    raise ExportError(
                        f"{usage[key]} says that row {place} is {name}; the sorted folder says otherwise"
                    )
                parts[-1].append(files[place] if inside else name)
    if inside:
        _check_folders(directory, usage["folders"])
        labels = tuple(
            (file, usage["folders"].get(PurePosixPath(file).parent.name, "?")) for file in parts[0]
        )
        return Contents(labels, tuple(parts[1]), inside=True)
    return Contents(_classes(parts[0], usage["folders"]), tuple(parts[1]), inside=False)


def image_folder(folder: Path) -> Iterator[str]:
    """Files of a folder of classes in the order of torchvision's ImageFolder, relative to the folder's parent."""
    for name in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()):
        for root, _, files in sorted(os.walk(folder / name, followlinks=True)):
            for file in sorted(files):
                if file.lower().endswith(SUFFIXES):
                    yield (Path(root) / file).relative_to(folder.parent).as_posix()


def write_names(split: Split, directory: Path) -> Usage:
    """Write lists of names, one a line, to `subsets`.

    `labeled.txt` and `unlabeled.txt`; the first again as `{p}percent.txt`, where PAWS looks for it (p: the percent
    *without* labels), and as `spc.4000_split.{seed}.txt` in row indices, as PAWS wants CIFAR-10's.

    Raises
    ------
    ExportError
        No files are laid out and the sources do not name their classes.
    """
    folders = _folders_in_use(split)
    rest = {row.task for row in split.unlabeled} - {row.task for row in split.labeled}
    percent = 100 * len(rest) // max(len(rest) + len(split.labeled), 1)
    seed = split.manifest.get("seed", 0)
    lists = {
        "labeled.txt": _names(split.labeled),
        "unlabeled.txt": _names(split.unlabeled),
        f"{percent}percent.txt": _names(split.labeled),
        f"spc.4000_split.{seed}.txt": [str(row.index) for row in split.labeled],
    }
    (directory / "subsets").mkdir()
    for name, lines in lists.items():
        text = "".join(f"{line}\n" for line in lines)
        (directory / "subsets" / name).write_text(text, encoding="utf-8", newline="\n")
    return {
        "subset_path": "subsets",
        # PAWS computes int(unlabeled_frac * 100), which rounding errors must not carry to the next lower number.
        "unlabeled_frac": (percent + 0.5) / 100,
        "split_seed": seed,
        "folders": folders,
        "fillers": fill_empty_classes(split, directory),
    }


def read_names(directory: Path, manifest: Usage) -> Contents:
    """What PAWS's ImageNet reader makes of the lists: the class is what stands before the first `_`."""
    usage = manifest["usage"]
    inside = (directory / "train").is_dir()
    percent = int(usage["unlabeled_frac"] * 100)
    parts = []
    for name in (f"{percent}percent.txt", "unlabeled.txt"):
        lines = (directory / usage["subset_path"] / name).read_text(encoding="utf-8").split("\n")[:-1]
        parts.append([f"train/{line.split('_')[0]}/{line}" for line in lines])
    if inside:
        _check_folders(directory, usage["folders"])
    return Contents(_classes(parts[0], usage["folders"]), tuple(parts[1]), inside=inside)


def _names(rows: Iterable[Row]) -> list[str]:
    """File names alone; none may break a line."""
    names = [PurePosixPath(row.path).name for row in rows]
    for name in names:
        if "\n" in name or "\r" in name:
            raise ExportError(
                f"{name!r} breaks its line in a list of names; give --media link or --media copy"
            )
    return names


def _folders_in_use(split: Split) -> dict[str, str]:
    """Folder -> class; sources themselves must name the classes (`n01440764/n01440764_18.JPEG`) without files."""
    if any(row.file for row in (*split.labeled, *split.unlabeled)):
        return {folder: name for name, folder in class_folders(split).items()}
    for row in split.labeled:
        path = PurePosixPath(row.source)
        if path.parent.name != row.label or path.name.split("_")[0] != row.label:
            raise ExportError(
                f"this format takes the class from the names of folder and file, but {row.source!r} is labeled "
                f"{row.label!r}; give --media link or --media copy, so that the files are laid out anew"
            )
    return {name: name for name in split.classes}


def _classes(files: list[str], folders: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Files with the class that their names give them."""
    return tuple((file, folders.get(PurePosixPath(file).name.split("_")[0], "?")) for file in files)


def _check_folders(directory: Path, folders: dict[str, str]) -> None:
    """Insist on a folder with a picture for every class, since ImageFolder numbers what it finds."""
    found = {PurePosixPath(path).parts[1] for path in image_folder(directory / "train")} - {UNLABELED}
    if odd := found ^ set(folders):
        raise ExportError(
            f"ImageFolder numbers the folders it finds, and train/{min(odd)} is missing, empty or new"
        )

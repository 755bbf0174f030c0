"""Formats based on class folders: EMAN's index pair and the name lists of PAWS and SimCLRv2.

Both consumers derive a class from the name of a folder or file, and EMAN a row from its position in the sorted
folder, so the files get new paths: `train/c03/c03_4711.png` is task 4711 of the fourth class, and rows without a
label are in `train/unlabeled`, which sorts after all classes. ImageFolder numbers the folders it finds and, in
recent releases, refuses an empty one, so a class without labels gets a filler: an image that no list contains.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from usl_backend.errors import ExportError
from usl_backend.exports.split import Contents, Row, Split, Usage, labeled_as

if TYPE_CHECKING:
    from usl_backend.exports.media import Layout, Part

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Image extensions of torchvision's ImageFolder."""
UNLABELED = "unlabeled"


def by_class(split: Split) -> Layout:
    """Return the layout by class; a labeled row has one path, even if it is listed as unlabeled too."""
    folders = class_folders(split)
    labels = {row.task: str(row.label) for row in split.labeled}

    def place(row: Row, part: Part) -> str:  # noqa: ARG001 - the same in both
        folder = folders[labels[row.task]] if row.task in labels else UNLABELED
        return f"train/{folder}/{folder}_{row.task}"

    return place


def class_folders(split: Split) -> dict[str, str]:
    """Return class -> folder; sorted folder names keep the order of the classes."""
    width = len(str(max(len(split.classes) - 1, 1)))
    return {name: f"c{place:0{width}d}" for name, place in split.places.items()}


def write_eman(split: Split, directory: Path) -> Usage:
    """Write `indexes/train_{p}p_gen_{name}_index.csv` and its complement with the columns `Index,ImageID`.

    `Index` is the row's position in the ImageFolder of all files, in torchvision's order.

    Raises
    ------
    ExportError
        The export has no files and the source paths do not contain the classes, or ImageFolder cannot read a file.
    """
    folders = _folders_in_use(split)
    paths = {row.path for row in (*split.labeled, *split.unlabeled)}
    fillers = fill_empty_classes(split, directory)
    paths.update(fillers)
    for path in paths:
        if not path.lower().endswith(SUFFIXES):
            raise ExportError(f"ImageFolder ignores {path!r}; it reads {', '.join(SUFFIXES)}")
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
    """Create a folder with an image for every class without labels; do nothing if the export has no files.

    Returns
    -------
    list of str
        Paths of the fillers inside the export.
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
    """Read both index files as EMAN's ImageFolderWithIndex does; without files, read the names they list."""
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
                        f"row {place} is {name} in {usage[key]}, but another file in the sorted folder; export again"
                    )
                parts[-1].append(files[place] if inside else name)
    if inside:
        _check_folders(directory, usage["folders"])
        labels = tuple(
            (file, usage["folders"].get(PurePosixPath(file).parent.name, "?")) for file in parts[0]
        )
        return Contents(labeled_as(labels), tuple(parts[1]), inside=True)
    return Contents(labeled_as(_classes(parts[0], usage["folders"])), tuple(parts[1]), inside=False)


def image_folder(folder: Path) -> Iterator[str]:
    """Yield the files of a class folder in the order of torchvision's ImageFolder, relative to its parent."""
    for name in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()):
        for root, _, files in sorted(os.walk(folder / name, followlinks=True)):
            for file in sorted(files):
                if file.lower().endswith(SUFFIXES):
                    yield (Path(root) / file).relative_to(folder.parent).as_posix()


def write_names(split: Split, directory: Path) -> Usage:
    """Write lists of names, one per line, to `subsets`.

    The lists are `labeled.txt` and `unlabeled.txt`; for PAWS, the first is repeated as `{p}percent.txt` (p: the
    percentage *without* labels) and, in row indices, as `spc.4000_split.{seed}.txt`, its format for CIFAR-10.

    Raises
    ------
    ExportError
        The export has no files and the source paths do not contain the classes.
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
        # PAWS computes int(unlabeled_frac * 100); a rounding error must not yield the next lower number.
        "unlabeled_frac": (percent + 0.5) / 100,
        "split_seed": seed,
        "folders": folders,
        "fillers": fill_empty_classes(split, directory),
    }


def read_names(directory: Path, manifest: Usage) -> Contents:
    """Read the lists as PAWS's ImageNet reader does: the class is the part before the first `_`."""
    usage = manifest["usage"]
    inside = (directory / "train").is_dir()
    percent = int(usage["unlabeled_frac"] * 100)
    parts = []
    for name in (f"{percent}percent.txt", "unlabeled.txt"):
        lines = (directory / usage["subset_path"] / name).read_text(encoding="utf-8").split("\n")[:-1]
        parts.append([f"train/{line.split('_')[0]}/{line}" for line in lines])
    if inside:
        _check_folders(directory, usage["folders"])
    return Contents(labeled_as(_classes(parts[0], usage["folders"])), tuple(parts[1]), inside=inside)


def _names(rows: Iterable[Row]) -> list[str]:
    """Return the bare file names; raise if one contains a line break."""
    names = [PurePosixPath(row.path).name for row in rows]
    for name in names:
        if "\n" in name or "\r" in name:
            raise ExportError(
                f"{name!r} contains a line break, which a list of names cannot hold; use --media link or --media copy"
            )
    return names


def _folders_in_use(split: Split) -> dict[str, str]:
    """Return folder -> class; without files, source paths must contain the class (`n01440764/n01440764_18.JPEG`)."""
    if any(row.file for row in (*split.labeled, *split.unlabeled)):
        return {folder: name for name, folder in class_folders(split).items()}
    for row in split.labeled:
        path = PurePosixPath(row.source)
        if path.parent.name != row.label or path.name.split("_")[0] != row.label:
            raise ExportError(
                f"this format derives the class from folder and file names, but {row.source!r} is labeled "
                f"{row.label!r}; use --media link or --media copy, which creates files with suitable names"
            )
    return {name: name for name in split.classes}


def _classes(files: list[str], folders: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the files with the class derived from their names."""
    return tuple((file, folders.get(PurePosixPath(file).name.split("_")[0], "?")) for file in files)


def _check_folders(directory: Path, folders: dict[str, str]) -> None:
    """Check that every class has a folder with an image, since ImageFolder numbers the folders it finds."""
    found = {PurePosixPath(path).parts[1] for path in image_folder(directory / "train")} - {UNLABELED}
    if odd := found ^ set(folders):
        raise ExportError(
            f"ImageFolder numbers the folders it finds, but train/{min(odd)} is missing, empty or unexpected"
        )

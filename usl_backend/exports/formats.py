"""Table of the export formats; the module of each family writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from usl_backend.errors import ExportError
from usl_backend.exports import folders, huggingface, indices, lists, loaders, tables, texts
from usl_backend.exports.media import Layout, Media, flat
from usl_backend.exports.split import Contents, Holds, Split, Usage
from usl_backend.instances import Modality


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes
    ----------
    summary
        Content and consumer.
    write
        Writes the files into a directory and returns usage hints for the consumer, JSON-able.
    read
        Reads the files as the consumer does: directory and manifest -> contents.
    layout
        Paths of linked or copied files.
    media
        Default treatment of media files.
    holds
        The most that it can say of a task.
    shows
        Modalities of the instances that its consumer can read.
    suggested
        True if it can hold suggested labels apart from those that people gave.
    """

    summary: str
    write: Callable[[Split, Path], Usage]
    read: Callable[[Path, Usage], Contents]
    layout: Callable[[Split], Layout] = flat
    media: Media = "none"
    holds: Holds = "class"
    shows: tuple[Modality, ...] = ("image",)
    suggested: bool = False


_ANY: tuple[Modality, ...] = ("image", "text")
FORMATS: dict[str, Format] = {
    "json": Format(
        "labeled.json, unlabeled.json",
        tables.write_json,
        tables.read_json,
        holds="annotations",
        shows=_ANY,
        suggested=True,
    ),
    "jsonl": Format(
        "labeled.jsonl, unlabeled.jsonl",
        tables.write_jsonl,
        tables.read_jsonl,
        holds="annotations",
        shows=_ANY,
        suggested=True,
    ),
    "csv": Format(
        "labeled.csv, unlabeled.csv",
        tables.write_csv,
        tables.read_csv,
        holds="classes",
        shows=_ANY,
        suggested=True,
    ),
    "torch": Format(
        "CSV files and a loader in torchvision's manner",
        loaders.write_torch,
        loaders.read_torch,
        media="link",
        suggested=True,
    ),
    "eman": Format(
        "Index,ImageID pair of EMAN's FixMatch and USL's SimCLRv2, over an ImageFolder",
        folders.write_eman,
        folders.read_eman,
        folders.by_class,
        "link",
    ),
    "names": Format(
        "name lists of PAWS and SimCLRv2, over an ImageFolder",
        folders.write_names,
        folders.read_names,
        folders.by_class,
        "link",
    ),
    "npy": Format(
        "index arrays of USL's FixMatch and TorchSSL",
        indices.write_npy,
        indices.read_npy,
        shows=_ANY,
        suggested=True,
    ),
    "semilearn": Format(
        "lists and a loader for semilearn (USB)", lists.write_semilearn, lists.read_semilearn, media="link"
    ),
    "semilearn-text": Format(
        "texts in semilearn's JSON and a loader",
        texts.write_semilearn_text,
        texts.read_semilearn_text,
        shows=("text",),
    ),
    "mmpretrain": Format(
        "annotation files of mmpretrain's CustomDataset",
        lists.write_mmpretrain,
        lists.read_mmpretrain,
        media="link",
        suggested=True,
    ),
    "huggingface": Format(
        "imagefolder with metadata, or JSON lines of texts, for datasets.load_dataset",
        huggingface.write_huggingface,
        huggingface.read_huggingface,
        huggingface.by_part,
        "link",
        holds="classes",
        shows=_ANY,
        suggested=True,
    ),
}
"""Format name -> format."""


def formats_for(holds: Holds, modality: Modality) -> tuple[str, ...]:
    """Return the formats that can say everything of such tasks to a consumer that reads their media."""
    order = ("class", "classes", "annotations")
    return tuple(
        name
        for name, made in FORMATS.items()
        if order.index(made.holds) >= order.index(holds) and modality in made.shows
    )


def check_format(split: Split, name: str) -> None:
    """Refuse an unknown format, or one that cannot say what is known of the labeled rows or is for other media.

    Raises
    ------
    ExportError
        The message names a task and the formats to use instead.
    """
    if name not in FORMATS:
        raise ExportError(f'format is "{name}"; choose one of {", ".join(FORMATS)}')
    made = FORMATS[name]
    if split.holds == "annotations" and made.holds != "annotations":
        asked = split.manifest.get("asks_for", "annotations without a class")
        raise ExportError(
            f"format {name} holds classes, but the label config asks for {asked}; "
            f"{_able('annotations')} hold what annotators made of that"
        )
    several = next((row for row in split.labeled if len(row.labels) > 1), None)
    if several is not None and made.holds == "class":
        raise ExportError(
            f"format {name} holds one class per task, but task {several.task} has {len(several.labels)} "
            f"({', '.join(several.labels)}); {_able('classes')} hold several"
        )
    if split.modality not in made.shows:
        able = ", ".join(formats_for(split.holds, split.modality))
        raise ExportError(
            f"format {name} is for {' and '.join(f'{one}s' for one in made.shows)}, but the rows of this split are "
            f"{split.modality}s (modality); choose one of {able}"
        )


def _able(holds: Holds) -> str:
    """List the formats that can say something, for a message."""
    *names, last = dict.fromkeys((*formats_for(holds, "image"), *formats_for(holds, "text")))
    return f"{', '.join(names)} and {last}"

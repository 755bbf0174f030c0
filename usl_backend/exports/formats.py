"""Table of the export formats; the module of each family writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from usl_backend.exports import folders, huggingface, indices, lists, loaders, tables, texts
from usl_backend.exports.media import Layout, Media, flat
from usl_backend.exports.split import Contents, Split, Usage


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
    """

    summary: str
    write: Callable[[Split, Path], Usage]
    read: Callable[[Path, Usage], Contents]
    layout: Callable[[Split], Layout] = flat
    media: Media = "none"


FORMATS: dict[str, Format] = {
    "json": Format("labeled.json, unlabeled.json", tables.write_json, tables.read_json),
    "jsonl": Format("labeled.jsonl, unlabeled.jsonl", tables.write_jsonl, tables.read_jsonl),
    "csv": Format("labeled.csv, unlabeled.csv", tables.write_csv, tables.read_csv),
    "torch": Format(
        "CSV files and a loader in torchvision's manner",
        loaders.write_torch,
        loaders.read_torch,
        media="link",
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
    "npy": Format("index arrays of USL's FixMatch and TorchSSL", indices.write_npy, indices.read_npy),
    "semilearn": Format(
        "lists and a loader for semilearn (USB)", lists.write_semilearn, lists.read_semilearn, media="link"
    ),
    "semilearn-text": Format(
        "texts in semilearn's JSON and a loader", texts.write_semilearn_text, texts.read_semilearn_text
    ),
    "mmpretrain": Format(
        "annotation files of mmpretrain's CustomDataset",
        lists.write_mmpretrain,
        lists.read_mmpretrain,
        media="link",
    ),
    "huggingface": Format(
        "imagefolder with metadata, for datasets.load_dataset",
        huggingface.write_huggingface,
        huggingface.read_huggingface,
        huggingface.by_part,
        "link",
    ),
}
"""Format name -> format."""

"""Parsing of a TARGET that is not a project into a `Target`, and opening it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from usl_backend.errors import InputError
from usl_backend.media.limits import MediaLimits
from usl_backend.media.objects import SCHEMES, ObjectStores
from usl_backend.progress import Progress
from usl_backend.sources.columns import IMAGES, TEXTS
from usl_backend.sources.entries import Listing
from usl_backend.sources.folder import Folder, ObjectFolder, is_pattern, is_picture, split_pattern
from usl_backend.sources.table_listing import TableListing
from usl_backend.sources.tables import arrow
from usl_backend.sources.vectors import EMBEDDINGS, VectorFile, vector_columns

Kind = Literal["folder", "pattern", "table", "vectors", "parquet"]
TABLES: Final = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
VECTORS: Final = frozenset({".npy", ".npz"})
PARQUET: Final = frozenset({".parquet", ".pq"})
KINDS: Final = (
    "a folder of images, a pattern such as 'photos/**/*.png', a CSV, JSON-lines (.jsonl) or Parquet manifest, or "
    "vectors (.npy, .npz, .parquet)"
)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Target:
    """A pool outside Label Studio and the options for reading it; JSON-able, so that a run can be resumed.

    Attributes
    ----------
    address
        Absolute path, pattern or address.
    data_key, id_key, label_key
        Columns or arrays chosen by the user; None detects them, "none" disables them.
    roots
        Further folders under which a manifest's files may be read.
    """

    address: str
    data_key: str | None = None
    id_key: str | None = None
    label_key: str | None = None
    roots: tuple[str, ...] = field(default=())

    @property
    def kind(self) -> Kind:
        """Kind of pool, by its name and by the files on disk."""
        suffix = os.path.splitext(self.address.partition("?")[0] if self.remote else self.address)[1].lower()  # noqa: PTH122
        if not self.remote and Path(self.address).is_dir():
            return "folder"
        if suffix in TABLES:
            return "table"
        if suffix in VECTORS:
            return "vectors"
        if suffix in PARQUET:
            return "parquet"
        return "pattern" if is_pattern(self.address) and not Path(self.address).exists() else "folder"

    @property
    def remote(self) -> bool:
        """True for an address, False for a local path."""
        return _SCHEME.match(self.address) is not None

    @property
    def name(self) -> str:
        """Pool name: "photos" for /data/photos, /data/photos.csv and s3://bucket/photos."""
        path = _SCHEME.sub("", self.address).partition("?")[0]
        if self.kind == "pattern":
            path = str(split_pattern(path)[0].absolute())
        stem = Path(path).name if self.kind in ("folder", "pattern") else Path(path).stem
        plain = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")[:40] or "pool"
        return plain if plain[0].isalpha() else f"pool_{plain}"

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON-able values."""
        return {**asdict(self), "roots": list(self.roots)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Target:
        """Inverse of `to_json`; unknown entries are ignored."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return cls(**{**known, "roots": tuple(known.get("roots", ()))})


def find(text: str, **keys: Any) -> Target:
    """Parse a TARGET.

    Parameters
    ----------
    text
        Path, pattern or address.
    **keys
        Other attributes of `Target`.

    Raises
    ------
    InputError
        The target does not exist, or its kind is not supported.
    """
    if not text.strip():
        raise InputError(
            f'"{text}" is neither a project nor a file or folder; TARGET is a project, or {KINDS}'
        )
    if match := _SCHEME.match(text):
        scheme = match[1].lower()
        if scheme == "file":
            return find(unquote(urlsplit(text).path), **keys)
        target = Target(text, **keys)
        if scheme not in {"http", "https", *SCHEMES}:
            known = ", ".join(f"{one}://" for one in ("http", "https", *sorted(SCHEMES)))
            raise InputError(f"{text} begins with {scheme}://, which is not supported; use one of {known}")
        if target.kind == "folder" and scheme in {"http", "https"}:
            raise InputError(
                f"{text} is neither a project nor a manifest (.csv, .tsv, .jsonl, .parquet) or vectors (.npy, .npz)"
            )
        return target
    path = Path(text).expanduser()
    if is_pattern(text) and not path.exists():
        start, rest = split_pattern(str(path))
        if not start.is_dir():
            raise InputError(f"{text} matches nothing: there is no folder {start.absolute()}")
        return Target(os.path.join(start.resolve(), rest), **keys)  # noqa: PTH118 - a pattern is not a path
    if not path.exists():
        raise InputError(
            f"{text} is neither a project nor a file or folder here; TARGET is a project, or {KINDS}"
        )
    if not path.is_dir() and path.suffix.lower() not in TABLES | VECTORS | PARQUET:
        what = "a single image; give its folder" if is_picture(path.name) else "not of a supported kind"
        raise InputError(f"{text} is {what}; TARGET is a project, or {KINDS}")
    return Target(str(path.resolve()), **keys)


def read_manifest(
    target: Target | str | Path,
    *,
    local: Path | None = None,
    progress: Progress | None = None,
) -> Listing | VectorFile:
    """Open a pool outside Label Studio.

    Parameters
    ----------
    target
        Result of `find`, or a path.
    local
        Path of the downloaded copy of a remote file.
    progress
        Receives the number of files seen in a folder.

    Returns
    -------
    Listing or VectorFile
        A sequence of entries, or vectors.

    Raises
    ------
    InputError
        The target cannot be read, or its columns do not fit.

    Examples
    --------
    >>> for entry in read_manifest("photos.csv"):  # doctest: +SKIP
    ...     print(entry.row, entry.key, entry.source, entry.label)
    """
    if not isinstance(target, Target):
        target = find(str(target))
    path = Path(target.address) if local is None else local
    keys: dict[str, Any] = {
        "data_key": target.data_key, "id_key": target.id_key, "label_key": target.label_key, "address": target.address,
    }  # fmt: skip
    kind = target.kind
    texts = (target.data_key or "").startswith("text:")
    if kind == "folder" and target.remote:
        return ObjectFolder(target.address, ObjectStores(MediaLimits()), texts=texts, progress=progress)
    if kind in ("folder", "pattern"):
        for name in ("id_key", "label_key"):
            if getattr(target, name) is not None:
                flag = "--" + name.replace("_", "-")
                raise InputError(
                    f"{target.address} is a list of files without columns; {flag} is for tables and vectors"
                )
        if kind == "folder":
            return Folder(path, texts=texts, progress=progress)
        start, pattern = split_pattern(target.address)
        return Folder(start, pattern=pattern, texts=texts, progress=progress)
    if kind == "vectors" or (kind == "parquet" and _holds_vectors(path, target)):
        return VectorFile(path, **keys)
    base = target.address.rpartition("/")[0] if target.remote else None
    return TableListing(path, base=base, roots=tuple(map(Path, target.roots)), **keys)


def _holds_vectors(path: Path, target: Target) -> bool:
    """Return True if a Parquet file contains vectors: in the chosen column, or in one with a usual name."""
    parquet = arrow(target.address)
    try:
        with parquet.ParquetFile(path) as file:
            columns = vector_columns(file.schema_arrow)
            named = {name.lower() for name in file.schema_arrow.names}
    except (OSError, ValueError) as error:
        raise InputError(f"{target.address} is not a Parquet file ({error})") from error
    if target.data_key is not None:
        return target.data_key in columns
    # a table of images may also have a column of number lists, such as bounding boxes
    return not named.isdisjoint(EMBEDDINGS) or (bool(columns) and named.isdisjoint((*IMAGES, *TEXTS)))

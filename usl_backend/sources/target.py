"""What a user means by a TARGET that is no project; reading it is the other files' matter."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

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
    "a folder of pictures, a pattern such as 'photos/**/*.png', a CSV, JSON-lines (.jsonl) or Parquet manifest, or "
    "vectors (.npy, .npz, .parquet)"
)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Target:
    """A pool outside Label Studio, and how it is to be read; JSON-able, so that a run can be resumed.

    Attributes
    ----------
    address
        Absolute path, pattern or address.
    data_key, id_key, label_key
        Columns or arrays as the user named them; None: found by name, "none": not there.
    roots
        Further folders below which a manifest's files may lie.
    """

    address: str
    data_key: str | None = None
    id_key: str | None = None
    label_key: str | None = None
    roots: tuple[str, ...] = field(default=())

    @property
    def kind(self) -> Kind:
        """What it is, by its name and by what is on the disk."""
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
        """Whether it lies elsewhere than on this disk."""
        return _SCHEME.match(self.address) is not None

    @property
    def name(self) -> str:
        """What a run of it is called: "photos" for /data/photos, /data/photos.csv and s3://bucket/photos."""
        path = _SCHEME.sub("", self.address).partition("?")[0]
        if self.kind == "pattern":
            path = str(split_pattern(path)[0].absolute())
        stem = Path(path).name if self.kind in ("folder", "pattern") else Path(path).stem
        plain = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")[:40] or "pool"
        return plain if plain[0].isalpha() else f"pool_{plain}"

    def to_json(self) -> dict[str, Any]:
        """All attributes as JSON-able values."""
        return {**asdict(self), "roots": list(self.roots)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Target:
        """Inverse of `to_json`; further entries are ignored."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return cls(**{**known, "roots": tuple(known.get("roots", ()))})


def find(text: str, **keys: Any) -> Target:
    """Make out what a user typed.

    Parameters
    ----------
    text
        Path, pattern or address.
    **keys
        Other attributes of `Target`.

    Raises
    ------
    InputError
        There is no such thing, or it is of no kind that can be read.
    """
    if not text.strip():
        raise InputError(
            f'"{text}" is neither a project nor a file or folder; TARGET is a project, or {KINDS}'
        )
    if match := _SCHEME.match(text):
        scheme = match[1].lower()
        if scheme == "file":
            return find(text[match.end() :], **keys)
        target = Target(text, **keys)
        if scheme not in {"http", "https", *SCHEMES}:
            known = ", ".join(f"{one}://" for one in ("http", "https", *sorted(SCHEMES)))
            raise InputError(f"{text} begins with {scheme}://, which is not read; known are {known}")
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
        return Target(os.path.join(start.resolve(), rest), **keys)  # noqa: PTH118 - a pattern is no path
    if not path.exists():
        raise InputError(
            f"{text} is neither a project nor a file or folder here; TARGET is a project, or {KINDS}"
        )
    if not path.is_dir() and path.suffix.lower() not in TABLES | VECTORS | PARQUET:
        what = "one picture; give its folder" if is_picture(path.name) else "of a kind that cannot be read"
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
        As `find` gives it, or a path.
    local
        Where the bytes of a remote file lie on this disk.
    progress
        Told how many files of a folder were seen.

    Returns
    -------
    Listing or VectorFile
        Entries to be read one after the other, or vectors.

    Raises
    ------
    InputError
        It cannot be read, or its columns do not fit.

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
    if kind == "folder" and target.remote:
        return ObjectFolder(target.address, ObjectStores(MediaLimits()), progress=progress)
    if kind in ("folder", "pattern"):
        for name in ("id_key", "label_key"):
            if getattr(target, name) is not None:
                flag = "--" + name.replace("_", "-")
                raise InputError(
                    f"{target.address} has files and no columns; {flag} is for tables and vectors"
                )
        if kind == "folder":
            return Folder(path, progress=progress)
        start, pattern = split_pattern(target.address)
        return Folder(start, pattern=pattern, progress=progress)
    if kind == "vectors" or (kind == "parquet" and _holds_vectors(path, target)):
        return VectorFile(path, **keys)
    base = target.address.rpartition("/")[0] if target.remote else None
    return TableListing(path, base=base, roots=tuple(map(Path, target.roots)), **keys)


def _holds_vectors(path: Path, target: Target) -> bool:
    """Whether a Parquet file is one of vectors: the chosen column is, or one is called so."""
    parquet = arrow(target.address)
    try:
        with parquet.ParquetFile(path) as file:
            columns = vector_columns(file.schema_arrow)
            named = {name.lower() for name in file.schema_arrow.names}
    except (OSError, ValueError) as error:
        raise InputError(f"{target.address} is no Parquet file ({error})") from error
    if target.data_key is not None:
        return target.data_key in columns
    # a table of pictures may have a list of numbers too, such as a bounding box
    return not named.isdisjoint(EMBEDDINGS) or (bool(columns) and named.isdisjoint((*IMAGES, *TEXTS)))

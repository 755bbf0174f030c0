"""Keep embeddings on disk, keyed by the content they were made from."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from usl_backend.embedding.shards import MAX_ROWS, Shards, load_rows
from usl_backend.errors import RunError, StorageError
from usl_backend.outliers import UNMEASURED, Traits
from usl_backend.runs.artifacts import atomic_write

if TYPE_CHECKING:
    from numpy.typing import NDArray

FLUSH_ROWS: Final = 1_024
"""Rows after which whoever adds them flushes: what a crash can cost, plus one batch."""
_GATHER_ROWS: Final = 128
_NO_DIRECTION: Final = 1e-6

Contents = str | tuple[str, ...]
"""What a row is made of: a hexadecimal content hash, or those of several contents, whose mean it is."""


class EmbeddingCache:
    """The embeddings of one encoder under one directory; safe for threads and for several processes.

    Opening reads every shard's JSON; a shard's checksum is compared once, before its first row counts as
    known. A shard that fails is set aside (renamed to `*.damaged`) with a warning, and its rows count as
    missing, so they are computed again.

    Parameters
    ----------
    directory
        Parent of the encoders' folders.
    encoder_key
        Names the folder: equal keys, equal rows.
    dim
        Columns of a row.

    Raises
    ------
    StorageError
        The folder cannot be made or read.
    RunError
        The key cannot name a folder.
    """

    def __init__(self, directory: Path, *, encoder_key: str, dim: int) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", encoder_key):
            raise RunError(f"encoder key {encoder_key!r} cannot name a folder")
        self.directory = Path(directory) / encoder_key
        self.encoder_key = encoder_key
        self.dim = dim
        self._lock = threading.RLock()
        # Content hash -> shard and row in one integer: a million contents take half the memory of objects.
        self._places: dict[bytes, int] = {}
        self._pending: dict[bytes, tuple[NDArray[np.float32], Traits]] = {}
        # Shard -> what was measured on its contents, 8 bytes each.
        self._traits: dict[int, NDArray[np.float16]] = {}
        self._read: set[int] = set()
        self._unchecked: dict[int, tuple[str, int]] = {}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"embeddings cannot be kept in {self.directory}: {error.strerror}") from error
        self._shards = Shards(self.directory, encoder_key=encoder_key, dim=dim)
        self._shards.sweep()
        self.refresh()

    def __len__(self) -> int:
        """Distinct contents that are known, pending ones included."""
        with self._lock:
            return len(self._places.keys() | self._pending.keys())

    def refresh(self) -> None:
        """Take in the shards that other processes have added since."""
        with self._lock:
            for number in sorted(self._shards.numbers()):
                if number not in self._read:
                    self._read.add(number)
                    self._index(number)

    def known(self, hashes: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which of n hexadecimal content hashes have a row: (n,) bool."""
        with self._lock:
            keys = [bytes.fromhex(content_hash) for content_hash in hashes]
            touched = {self._places[key] // MAX_ROWS for key in keys if key in self._places}
            for number in sorted(touched & self._unchecked.keys()):
                self._check(number)
            return np.array([key in self._places or key in self._pending for key in keys], dtype=np.bool_)

    def prefixes(self) -> NDArray[np.uint64]:
        """First 8 bytes of the hash of every content that has a row on disk, as ascending numbers.

        Enough to tell, nearly always, what is new to the cache without having it. Damaged shards are found first.
        """
        with self._lock:
            for number in sorted(self._unchecked):
                self._check(number)
            found = b"".join(key[:8] for key in self._places)
            return np.sort(np.frombuffer(found, dtype=">u8").astype(np.uint64))

    def append(
        self, hashes: Sequence[str], vectors: NDArray[np.float32], traits: Sequence[Traits] = (), /
    ) -> None:
        """Add rows; they are lost in a crash until `flush`.

        Parameters
        ----------
        hashes
            n hexadecimal content hashes.
        vectors : (n, dim) float32
            Their rows. Contents that are known already keep the row they have.
        traits
            What was measured on each content; nothing if empty.

        Raises
        ------
        ValueError
            Shapes do not match, or a value is not finite.
        """
        if vectors.shape != (len(hashes), self.dim):
            raise ValueError(f"vectors {vectors.shape} must be ({len(hashes)}, {self.dim})")
        if not bool(np.isfinite(vectors).all()):
            raise ValueError("vectors contain NaN or infinity")
        with self._lock:
            measured = traits or [UNMEASURED] * len(hashes)
            kept = np.array(vectors, dtype=np.float32)
            for content_hash, vector, found in zip(hashes, kept, measured, strict=True):
                key = bytes.fromhex(content_hash)
                if key not in self._places:
                    self._pending.setdefault(key, (vector, found))
            if len(self._pending) >= MAX_ROWS:
                self.flush()

    @property
    def pending(self) -> int:
        """Rows that a crash would lose."""
        return len(self._pending)

    def flush(self) -> None:
        """Write the pending rows to disk as new shards.

        Raises
        ------
        StorageError
            The disk is full or refuses; nothing half-written is left, and the rows stay pending.
        """
        with self._lock:
            while self._pending:
                keys = list(self._pending)[:MAX_ROWS]
                vectors = [self._pending[key][0] for key in keys]
                with np.errstate(over="ignore"):  # more than 65,504 letters are infinitely many
                    traits = np.array([self._pending[key][1] for key in keys], dtype=np.float16)
                try:
                    number = self._shards.write(keys, vectors, traits)
                except OSError as error:
                    raise StorageError(
                        f"embeddings cannot be written to {self.directory}: {error.strerror or error}; "
                        "free some disk space and resume"
                    ) from error
                self._read.add(number)
                self._traits[number] = traits
                for row, key in enumerate(keys):
                    self._places[key] = number * MAX_ROWS + row
                    del self._pending[key]

    def gather(self, contents: Sequence[Contents], out_path: Path) -> NDArray[np.float32]:
        """Write the rows of the given contents, in their order, to one file; a block at a time in memory.

        Parameters
        ----------
        contents
            For each of n rows a content hash, or several, at least one: the mean of their rows is brought to unit
            length. Repeats are allowed; pending rows are flushed first.
        out_path
            `.npy` file, replaced in one step when it is complete.

        Returns
        -------
        (n, dim) float32
            Memory-mapped, read-only.

        Raises
        ------
        KeyError
            A content is not known.
        StorageError
            The file cannot be written.
        """
        counts, places = self._located(contents)
        ends = np.cumsum(counts)
        mapped = {int(number): self._shards.rows(int(number)) for number in np.unique(places // MAX_ROWS)}
        try:
            out_path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(out_path) as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(contents), self.dim)}
                np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
                for start in range(0, len(contents), _GATHER_ROWS):
                    here = counts[start : start + _GATHER_ROWS]
                    end = int(ends[start + len(here) - 1])
                    rows = _rows_at(places[end - int(here.sum()) : end], mapped, self.dim)
                    file.write(_means(rows, here).data)
        except OSError as error:
            raise StorageError(
                f"embeddings cannot be written to {out_path}: {error.strerror or error}; free some disk "
                "space and resume"
            ) from error
        return load_rows(out_path)

    def traits(self, contents: Sequence[Contents]) -> NDArray[np.float32]:
        """Return what was measured on the given contents: (n, 4), columns as in `Traits`, NaN where nothing was.

        Parameters
        ----------
        contents
            As for `gather`; of several contents it is the largest of each number.

        Raises
        ------
        KeyError
            A content is not known.
        """
        counts, places = self._located(contents)
        each = np.full((len(places), len(Traits._fields)), np.nan, dtype=np.float32)
        shards, rows = places // MAX_ROWS, places % MAX_ROWS
        for number in np.unique(shards):
            found = self._traits.get(int(number))
            if found is not None:
                here = shards == number
                each[here] = found[rows[here]]
        if len(each) == len(counts):
            return each
        largest: NDArray[np.float32] = np.fmax.reduceat(each, np.cumsum(counts) - counts)
        return largest

    def _located(self, contents: Sequence[Contents]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how many contents each row is made of, and the place of every content; pending rows are flushed."""
        self.flush()
        counts = np.array([1 if isinstance(one, str) else len(one) for one in contents], dtype=np.int64)
        hashes = [each for one in contents for each in ((one,) if isinstance(one, str) else one)]
        with self._lock:
            if not self.known(hashes).all():
                raise KeyError("the cache was asked for contents that have no embedding")
            return counts, np.array([self._places[bytes.fromhex(one)] for one in hashes], dtype=np.int64)

    def _index(self, number: int) -> None:
        """Take in the contents that a shard's JSON names."""
        contents = self._shards.contents(number)
        if contents is None:
            return
        self._unchecked[number] = contents.sha256, len(contents.keys)
        if contents.traits is not None:
            self._traits[number] = contents.traits
        for row, key in enumerate(contents.keys):
            self._places.setdefault(key, number * MAX_ROWS + row)

    def _check(self, number: int) -> None:
        """Check a shard's rows, once; forget the shard where they are damaged."""
        sha256, count = self._unchecked.pop(number)
        if not self._shards.is_sound(number, sha256=sha256, count=count):
            self._places = {key: at for key, at in self._places.items() if at // MAX_ROWS != number}


def _rows_at(
    places: NDArray[np.int64], mapped: Mapping[int, NDArray[np.float32]], dim: int
) -> NDArray[np.float32]:
    """Read the rows at some places of the shards."""
    shards, rows = places // MAX_ROWS, places % MAX_ROWS
    block = np.empty((len(places), dim), dtype=np.float32)
    for number in np.unique(shards):
        here = shards == number
        block[here] = mapped[int(number)][rows[here]]
    return block


def _means(rows: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Replace each run of so many rows by its unit-length mean; a single row stays as it is."""
    if len(rows) == len(counts):
        return rows
    starts = np.cumsum(counts) - counts
    made: NDArray[np.float32] = rows[starts]
    several = np.flatnonzero(counts > 1)
    for place in several:
        mean = rows[starts[place] : starts[place] + counts[place]].mean(axis=0, dtype=np.float64)
        length = float(np.linalg.norm(mean))
        # Opposite rows have no mean direction: the first stands for them.
        if length > _NO_DIRECTION:
            made[place] = mean / length
    return made

"""Embeddings on disk, keyed by the content they were made from; nothing here decodes or encodes.

A shard is `<n>.npy` (rows) beside `<n>.json` (content hashes, dtype, checksum), at most 65,536 rows. The rows
are renamed into place before their JSON is, so a shard exists exactly when its JSON does. A shard never
changes: several processes add shards of their own, and a duplicate row does no harm.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import RunError, StorageError
from usl_backend.runs.artifacts import written_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ROWS: Final = 65_536
FLUSH_ROWS: Final = 1_024
"""Rows after which whoever adds them flushes: what a crash can cost, plus one batch."""
_GATHER_ROWS: Final = 8_192
_FORMAT: Final = 1
_ABANDONED_SECONDS: Final = 3_600.0

logger = logging.getLogger(__name__)


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
        self._pending: dict[bytes, NDArray[np.float32]] = {}
        self._read: set[int] = set()
        self._unchecked: dict[int, tuple[str, int]] = {}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"embeddings cannot be kept in {self.directory}: {error.strerror}") from error
        self._sweep()
        self.refresh()

    def __len__(self) -> int:
        """Distinct contents that are known, pending ones included."""
        with self._lock:
            return len(self._places.keys() | self._pending.keys())

    def refresh(self) -> None:
        """Take in the shards that other processes have added since."""
        with self._lock:
            for number in sorted(_numbers(self.directory)):
                if number not in self._read:
                    self._read.add(number)
                    self._index(number)

    def known(self, hashes: Sequence[str]) -> NDArray[np.bool_]:
        """Tell which contents have an embedding.

        Parameters
        ----------
        hashes
            n hexadecimal content hashes (SHA-256).

        Returns
        -------
        (n,) bool
            True where `gather` would find a row.
        """
        with self._lock:
            keys = [bytes.fromhex(content_hash) for content_hash in hashes]
            touched = {self._places[key] // MAX_ROWS for key in keys if key in self._places}
            for number in sorted(touched & self._unchecked.keys()):
                self._check(number)
            return np.array([key in self._places or key in self._pending for key in keys], dtype=np.bool_)

    def prefixes(self) -> NDArray[np.uint64]:
        """First 8 bytes of the hash of every content that has a row on disk, as ascending numbers.

        What somebody who has not the cache needs to tell, nearly always, what is new to it; damaged shards are
        found first, so that nobody counts on them.
        """
        with self._lock:
            for number in sorted(self._unchecked):
                self._check(number)
            found = b"".join(key[:8] for key in self._places)
            return np.sort(np.frombuffer(found, dtype=">u8").astype(np.uint64))

    def append(self, hashes: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add rows; they are lost in a crash until `flush`.

        Parameters
        ----------
        hashes
            n hexadecimal content hashes.
        vectors : (n, dim) float32
            Their rows. Contents that are known already keep the row they have.

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
            for content_hash, vector in zip(hashes, vectors, strict=True):
                key = bytes.fromhex(content_hash)
                if key not in self._places:
                    self._pending.setdefault(key, np.array(vector, dtype=np.float32))
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
                vectors = np.stack([self._pending[key] for key in keys])
                try:
                    number = self._write(keys, vectors)
                except OSError as error:
                    raise StorageError(
                        f"embeddings cannot be written to {self.directory}: {error.strerror or error}; "
                        "free some disk space and resume"
                    ) from error
                self._read.add(number)
                for row, key in enumerate(keys):
                    self._places[key] = number * MAX_ROWS + row
                    del self._pending[key]

    def gather(self, hashes: Sequence[str], out_path: Path) -> NDArray[np.float32]:
        """Write the rows of the given contents, in their order, to one file; a block at a time in memory.

        Parameters
        ----------
        hashes
            n hexadecimal content hashes, repeats allowed; pending rows are flushed first.
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
        self.flush()
        with self._lock:
            if not self.known(hashes).all():
                raise KeyError("gather was asked for contents that have no embedding")
            places = np.array([self._places[bytes.fromhex(one)] for one in hashes], dtype=np.int64)
        shards, rows = places // MAX_ROWS, places % MAX_ROWS
        mapped = {int(number): self._rows(int(number)) for number in np.unique(shards)}
        try:
            out_path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(out_path) as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(places), self.dim)}
                np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
                for start in range(0, len(places), _GATHER_ROWS):
                    part = slice(start, start + _GATHER_ROWS)
                    block = np.empty((len(shards[part]), self.dim), dtype=np.float32)
                    for number in np.unique(shards[part]):
                        here = shards[part] == number
                        block[here] = mapped[int(number)][rows[part][here]]
                    file.write(block.tobytes())
        except OSError as error:
            raise StorageError(
                f"embeddings cannot be written to {out_path}: {error.strerror or error}; free some disk "
                "space and resume"
            ) from error
        return load_rows(out_path)

    def _sweep(self) -> None:
        """Delete what a killed process left behind: temporary files, and rows whose JSON never came."""
        complete = _numbers(self.directory)
        for path in self.directory.iterdir():
            left_behind = path.name.startswith(".") or (
                path.suffix == ".npy" and path.stem.isdecimal() and int(path.stem) not in complete
            )
            try:
                # Young ones may belong to a process that is writing right now.
                if left_behind and path.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                    path.unlink()
            except OSError:
                continue  # another process was faster, or the directory is read-only: no harm either way

    # -- one shard -----------------------------------------------------------------------------------------

    def _rows(self, number: int) -> NDArray[np.float32]:
        return load_rows(self.directory / f"{number}.npy")

    def _index(self, number: int) -> None:
        """Take in the contents that a shard's JSON names."""
        try:
            described = json.loads((self.directory / f"{number}.json").read_text(encoding="utf-8"))
            if described["format"] != _FORMAT or described["encoder"] != self.encoder_key:
                raise ValueError("it was written by another version or for another encoder")
            keys = [bytes.fromhex(content_hash) for content_hash in described["hashes"]]
            if not 0 < len(keys) <= MAX_ROWS or {len(key) for key in keys} != {32}:
                raise ValueError("its content hashes are malformed")
            self._unchecked[number] = str(described["sha256"]), len(keys)
        except FileNotFoundError:
            return  # another process has set it aside
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._set_aside(number, error)
            return
        for row, key in enumerate(keys):
            self._places.setdefault(key, number * MAX_ROWS + row)

    def _check(self, number: int) -> None:
        """Compare a shard's rows with its JSON; forget the shard when they differ."""
        expected, count = self._unchecked.pop(number)
        path = self.directory / f"{number}.npy"
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    raise ValueError("its checksum does not match")
            rows = load_rows(path)
            if rows.shape != (count, self.dim) or rows.dtype != np.float32:
                raise ValueError(f"it holds {rows.dtype} {rows.shape}, not float32 {(count, self.dim)}")
        except (OSError, ValueError) as error:
            self._places = {key: at for key, at in self._places.items() if at // MAX_ROWS != number}
            self._set_aside(number, error)

    def _set_aside(self, number: int, error: Exception) -> None:
        logger.warning(
            "embedding shard %s/%d is damaged (%s); it is set aside and its rows are computed again",
            self.encoder_key,
            number,
            error,
        )
        for suffix in (".json", ".npy"):
            path = self.directory / f"{number}{suffix}"
            try:
                path.replace(path.with_name(f"{path.name}.damaged"))
            except FileNotFoundError:
                continue
            except OSError as refused:
                logger.warning("damaged shard file %s cannot be set aside: %s", path, refused.strerror)

    def _write(self, keys: list[bytes], vectors: NDArray[np.float32]) -> int:
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(vectors), allow_pickle=False)
        content = buffer.getbuffer()
        described = {
            "format": _FORMAT,
            "encoder": self.encoder_key,
            "dtype": str(vectors.dtype),
            "sha256": hashlib.sha256(content).hexdigest(),
            "hashes": [key.hex() for key in keys],
        }
        rows_file = _temporary(self.directory, content)
        json_file: Path | None = None
        try:
            json_file = _temporary(self.directory, json.dumps(described).encode())
            number = self._claim(rows_file)
            json_file.replace(self.directory / f"{number}.json")
            _sync_folder(self.directory)
            return number
        finally:
            rows_file.unlink(missing_ok=True)
            if json_file is not None:
                json_file.unlink(missing_ok=True)

    def _claim(self, rows_file: Path) -> int:
        """Give the rows the next free number; a hard link fails where another process was faster."""
        number = max(_used(self.directory), default=-1) + 1
        while True:
            try:
                os.link(rows_file, self.directory / f"{number}.npy")
                return number
            except FileExistsError:
                number += 1


def load_rows(path: Path) -> NDArray[np.float32]:
    """Open rows as a memory map.

    Parameters
    ----------
    path
        `.npy` file.

    Returns
    -------
    (n, d) float32
        Read-only; an ordinary array where n is 0, which cannot be mapped.
    """
    try:
        mapped: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    except ValueError:
        rows: NDArray[np.float32] = np.load(path, allow_pickle=False)
        if rows.size:
            raise
        return rows


def _numbers(directory: Path) -> set[int]:
    """Numbers of the complete shards."""
    return {int(path.stem) for path in directory.glob("*.json") if path.stem.isdecimal()}


def _used(directory: Path) -> set[int]:
    """Numbers that are taken, also by rows whose JSON never came and by damaged shards."""
    heads = (path.name.partition(".")[0] for path in directory.iterdir())
    return {int(head) for head in heads if head.isdecimal()}


def _temporary(directory: Path, content: bytes | memoryview) -> Path:
    """Write bytes to a new file that is on the disk when this returns."""
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=directory)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            _sync(file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

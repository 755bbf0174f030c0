"""Write, read and check the shards of one encoder: files that hold up to 65,536 rows each.

A shard is `<n>.npy` (rows) beside `<n>.json` (content hashes, what was measured on the contents, dtype, checksum). The
rows are renamed into place before their JSON is, so a shard exists exactly when its JSON does. A shard never changes:
several processes add shards of their own, and a duplicate row does no harm.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from usl_backend.outliers import Traits

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ROWS: Final = 65_536
_FORMAT: Final = 1
_ABANDONED_SECONDS: Final = 3_600.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardDescription:
    """What a shard's JSON says.

    Attributes
    ----------
    keys
        SHA-256 of the content of each row.
    sha256
        Checksum of the rows' file, hexadecimal.
    traits : (rows, 4) float16
        What was measured on the contents, columns as in `outliers.Traits`; None in shards of former versions.
    """

    keys: Sequence[bytes]
    sha256: str
    traits: NDArray[np.float16] | None = field(default=None, compare=False)


class Shards:
    """The shards in the folder of one encoder.

    Parameters
    ----------
    directory
        That folder; it exists.
    encoder_key
        Its encoder.
    dim
        Columns of a row.
    """

    def __init__(self, directory: Path, *, encoder_key: str, dim: int) -> None:
        self._directory, self._encoder_key, self._dim = directory, encoder_key, dim

    def numbers(self) -> set[int]:
        """Numbers of the complete shards."""
        return {int(path.stem) for path in self._directory.glob("*.json") if path.stem.isdecimal()}

    def rows(self, number: int) -> NDArray[np.float32]:
        """Rows of a shard, memory-mapped."""
        return load_rows(self._directory / f"{number}.npy")

    def contents(self, number: int) -> ShardDescription | None:
        """Read a shard's JSON; None where the shard is gone, or damaged and therefore set aside."""
        try:
            described = json.loads((self._directory / f"{number}.json").read_text(encoding="utf-8"))
            if described["format"] != _FORMAT or described["encoder"] != self._encoder_key:
                raise ValueError("it was written by another version or for another encoder")
            keys = [bytes.fromhex(content_hash) for content_hash in described["hashes"]]
            if not 0 < len(keys) <= MAX_ROWS or {len(key) for key in keys} != {32}:
                raise ValueError("its content hashes are malformed")
            traits = _unpacked(described["traits"]) if "traits" in described else None
            if traits is not None and len(traits) != len(keys):
                raise ValueError("what was measured does not fit its content hashes")
            return ShardDescription(keys, str(described["sha256"]), traits)
        except FileNotFoundError:
            return None  # another process has set it aside
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._set_aside(number, error)
            return None

    def is_sound(self, number: int, *, sha256: str, count: int) -> bool:
        """Compare a shard's rows with their checksum and number; set the shard aside where they differ."""
        path = self._directory / f"{number}.npy"
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise ValueError("its checksum does not match")
            rows = load_rows(path)
            if rows.shape != (count, self._dim) or rows.dtype != np.float32:
                raise ValueError(f"it holds {rows.dtype} {rows.shape}, not float32 {(count, self._dim)}")
        except (OSError, ValueError) as error:
            self._set_aside(number, error)
            return False
        return True

    def write(
        self, keys: Sequence[bytes], vectors: Sequence[NDArray[np.float32]], traits: NDArray[np.float16]
    ) -> int:
        """Write a new shard of at least one row, whole or not at all, and return its number."""
        content = _npy_file(vectors)
        checksum = hashlib.sha256()
        for part in content:
            checksum.update(part)
        described = {
            "format": _FORMAT,
            "encoder": self._encoder_key,
            "dtype": str(vectors[0].dtype),
            "sha256": checksum.hexdigest(),
            "hashes": [key.hex() for key in keys],
            "traits": base64.b64encode(traits.astype("<f2").tobytes()).decode("ascii"),
        }
        rows_file = _temporary(self._directory, *content)
        json_file: Path | None = None
        try:
            json_file = _temporary(self._directory, json.dumps(described).encode())
            number = self._claim(rows_file)
            json_file.replace(self._directory / f"{number}.json")
            _sync_folder(self._directory)
            return number
        finally:
            rows_file.unlink(missing_ok=True)
            if json_file is not None:
                json_file.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what a killed process left behind: temporary files, and rows whose JSON never came."""
        complete = self.numbers()
        for path in self._directory.iterdir():
            left_behind = path.name.startswith(".") or (
                path.suffix == ".npy" and path.stem.isdecimal() and int(path.stem) not in complete
            )
            try:
                # Young ones may belong to a process that is writing right now.
                if left_behind and path.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                    path.unlink()
            except OSError:
                continue  # another process was faster, or the directory is read-only: no harm either way

    def _claim(self, rows_file: Path) -> int:
        """Give the rows the next free number; a hard link fails where another process was faster."""
        number = max(self._used(), default=-1) + 1
        while True:
            try:
                os.link(rows_file, self._directory / f"{number}.npy")
                return number
            except FileExistsError:
                number += 1

    def _used(self) -> set[int]:
        """Numbers that are taken, also by rows whose JSON never came and by damaged shards."""
        heads = (path.name.partition(".")[0] for path in self._directory.iterdir())
        return {int(head) for head in heads if head.isdecimal()}

    def _set_aside(self, number: int, error: Exception) -> None:
        """Rename a damaged shard to `*.damaged`."""
        logger.warning(
            "embedding shard %s/%d is damaged (%s); it is set aside and its rows are computed again",
            self._encoder_key,
            number,
            error,
        )
        for suffix in (".json", ".npy"):
            path = self._directory / f"{number}{suffix}"
            try:
                path.replace(path.with_name(f"{path.name}.damaged"))
            except FileNotFoundError:
                continue
            except OSError as refused:
                logger.warning("damaged shard file %s cannot be set aside: %s", path, refused.strerror)


def load_rows(path: Path) -> NDArray[np.float32]:
    """Open the (n, d) float32 rows of a `.npy` file, read-only: memory-mapped unless n is 0."""
    try:
        mapped: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    except ValueError:
        rows: NDArray[np.float32] = np.load(path, allow_pickle=False)
        if rows.size:
            raise
        return rows


def _unpacked(text: str) -> NDArray[np.float16]:
    """Read the traits in a shard's JSON."""
    packed = np.frombuffer(base64.b64decode(text), dtype="<f2")
    return packed.reshape(-1, len(Traits._fields)).astype(np.float16)


def _npy_file(rows: Sequence[NDArray[np.float32]]) -> list[bytes | memoryview]:
    """Return header and values of a `.npy` file without copying the values: a copy would lie in a run's peak."""
    header = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), len(rows[0]))}
    np.lib.format.write_array_header_1_0(header, described)  # type: ignore[no-untyped-call]
    return [header.getvalue(), *(np.ascontiguousarray(row, dtype="<f4").data for row in rows)]


def _temporary(directory: Path, *content: bytes | memoryview) -> Path:
    """Write bytes to a new file that is on the disk when this returns."""
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=directory)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(content)
            _sync(file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _sync(file: IO[bytes]) -> None:
    """Wait until a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(directory: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

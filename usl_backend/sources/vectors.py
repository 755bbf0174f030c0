"""Pools of precomputed embeddings in .npy, .npz or Parquet files, read without loading whole files into memory."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import InputError, nearest_name
from usl_backend.instances import Pool
from usl_backend.media.limits import short_reason
from usl_backend.sources.columns import IDS, LABELS, NONE, as_text
from usl_backend.sources.tables import arrow
from usl_backend.sources.vector_sizes import check_column, check_room, check_row, check_whole, unpacked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress

EMBEDDINGS: Final = ("embeddings", "embedding", "vectors", "vector", "features", "arr_0")
_BLOCK_BYTES: Final = 32 << 20


@dataclass(frozen=True)
class VectorPool:
    """The pool of a vector file.

    Attributes
    ----------
    pool
        Usable rows; their ids are the rows of the file.
    digest
        SHA-256 over all rows, hexadecimal.
    keys, labels
        Ids and classes of all rows of the file; None if it has none.
    """

    pool: Pool
    digest: str
    keys: Sequence[str] | None = None
    labels: Sequence[str | None] | None = field(default=None)


class VectorFile:
    """A file of vectors.

    Parameters
    ----------
    path
        `.npy`: (n, d); `.npz`: such an array, `ids` and `labels` if any; `.parquet`: a column of lists.
    data_key
        Array or column of the vectors; None detects it by name.
    id_key, label_key
        Array or column of ids and classes; None detects it, "none" disables it.

    Raises
    ------
    InputError
        There is no such array or column, or it does not contain (n, d) numbers.
    """

    def __init__(
        self,
        path: Path,
        *,
        data_key: str | None = None,
        id_key: str | None = None,
        label_key: str | None = None,
        address: str | None = None,
    ) -> None:
        self.path = path.resolve()
        self.address = address or str(self.path)
        with self._translated():
            self._rows = self._open(data_key, id_key, label_key)
        if self._rows.count == 0:
            raise InputError(f"{self.address} has no rows")
        if self._rows.width == 0:
            raise InputError(f"the rows of {self.address} have no columns")

    @property
    def rows(self) -> int:
        """Number of rows of the file, usable or not."""
        return self._rows.count

    @property
    def width(self) -> int:
        """Numbers per row."""
        return self._rows.width

    @property
    def labels(self) -> Sequence[str | None] | None:
        """Classes of the rows; None if the file has none."""
        return self._rows.labels

    def read(self, copy: Path, *, progress: Progress | None = None) -> VectorPool:
        """Build a pool from the rows, memory-mapping the file itself if possible.

        Parameters
        ----------
        copy
            `.npy` file to write if rows are left out, are float64, or come from an archive.
        progress
            Receives the number of rows read.

        Returns
        -------
        VectorPool
            Its pool's `skipped` holds rows that are not finite, have another width, or whose id is missing or
            duplicate.

        Raises
        ------
        InputError
            The file is damaged, or no row is usable.
        """
        with self._translated():
            keys = self._rows.keys
            skipped = _key_faults(keys) if keys is not None else {}
            digest = hashlib.sha256()
            for start, block, faults in self._rows.blocks():
                digest.update(np.ascontiguousarray(block).data)
                skipped.update({row: why for row, why in faults.items() if row not in skipped})
                for place in np.flatnonzero(~np.isfinite(block).all(axis=1)).tolist():
                    skipped.setdefault(start + place, "it has NaN or infinity in it")
                if progress is not None:
                    progress("reading vectors", start + len(block), self._rows.count)
            ids = np.setdiff1d(
                np.arange(self._rows.count), np.fromiter(skipped, dtype=np.int64, count=len(skipped))
            )
            if len(ids) == 0:
                row = min(skipped)
                raise InputError(
                    f"none of the {self._rows.count:,} rows of {self.address} can be used (row {row}: {skipped[row]})"
                )
            mapped = self._rows.mapped()
            if mapped is None or skipped:
                mapped = self._copy(copy, ids)
            skipped = {row: skipped[row] for row in sorted(skipped)}
            return VectorPool(Pool(ids, mapped, skipped), digest.hexdigest(), keys, self._rows.labels)

    def _copy(self, path: Path, ids: NDArray[np.int64]) -> NDArray[np.floating]:
        """Write the usable rows to a file block by block, and memory-map it."""
        temporary = path.with_name(f".{path.name}.tmp")
        check_room(len(ids) * self.width * self._rows.kept.itemsize, path.parent, self.address)
        out = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            temporary, mode="w+", dtype=self._rows.kept, shape=(len(ids), self.width)
        )
        at = 0
        for start, block, _ in self._rows.blocks():
            first, last = np.searchsorted(ids, [start, start + len(block)])
            out[at : at + last - first] = block[ids[first:last] - start]
            at += int(last - first)
        out.flush()
        del out
        temporary.replace(path)
        rows: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
        return rows

    def _open(self, data_key: str | None, id_key: str | None, label_key: str | None) -> _Rows:
        suffix = self.path.suffix.lower()
        if suffix == ".npy":
            for key, flag in ((data_key, "--data-key"), (id_key, "--id-key"), (label_key, "--label-key")):
                if key not in (None, NONE):
                    raise InputError(
                        f"{self.address} is a single unnamed array; {flag} is for .npz and Parquet"
                    )
            return _Npy(self.path, self.address)
        if suffix == ".npz":
            return _Npz(self.path, self.address, data_key, id_key, label_key)
        return _ParquetRows(self.path, self.address, data_key, id_key, label_key)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translate foreign errors."""
        try:
            yield
        except (OSError, EOFError, zipfile.BadZipFile, MemoryError) as error:
            raise InputError(f"{self.address} cannot be read: {short_reason(error)}") from error
        except ValueError as error:
            if "pickle" in str(error) or "object" in str(error).lower():
                raise InputError(
                    f"{self.address} contains Python objects, which are not loaded for safety; save one array of "
                    "numbers with rows of equal width"
                ) from error
            raise InputError(f"{self.address} cannot be read: {short_reason(error)}") from error


class _Rows:
    """Base class of the readers, one per file format."""

    count: int
    width: int
    kept: np.dtype[Any]
    """Type that rows are converted to: float32 or float16."""
    keys: Sequence[str] | None = None
    labels: Sequence[str | None] | None = None

    def blocks(self) -> Iterator[tuple[int, NDArray[np.floating], Mapping[int, str]]]:
        """Yield blocks: first row, converted rows, and row -> fault (faulty rows are filled with NaN)."""
        raise NotImplementedError

    def mapped(self) -> NDArray[np.floating] | None:
        """Return the memory-mapped file if it needs no conversion, else None."""
        return None

    def _set(self, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> None:
        """Set shape and type of the rows, or raise if they are not vectors."""
        if dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded")
        if dtype.kind not in "fiu":
            raise InputError(f"{where} holds {dtype} values, not numbers")
        if len(shape) != 2:
            raise InputError(f"{where} has shape {shape}; vectors must have shape (rows, columns)")
        self.count, self.width = shape
        check_row(self.width * dtype.itemsize, where)
        self.kept = dtype if dtype in (np.float16, np.float32) else np.dtype(np.float32)

    @property
    def _step(self) -> int:
        return max(1, _BLOCK_BYTES // max(1, self.width * 4))


class _Npy(_Rows):
    """One memory-mapped array."""

    def __init__(self, path: Path, where: str) -> None:
        self._array = np.load(path, mmap_mode="r", allow_pickle=False) if path.stat().st_size else None
        if self._array is None:
            raise InputError(f"{where} is empty (0 bytes)")
        self._set(self._array.shape, self._array.dtype, where)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.floating], Mapping[int, str]]]:
        assert self._array is not None
        for start in range(0, self.count, self._step):
            yield start, _as(self._array[start : start + self._step], self.kept), {}

    def mapped(self) -> NDArray[np.floating] | None:
        assert self._array is not None
        usable = self._array.dtype == self.kept and self._array.flags.c_contiguous
        return self._array if usable else None


class _Npz(_Rows):
    """An array in an archive, streamed; ids and labels are loaded into memory."""

    def __init__(
        self, path: Path, where: str, data_key: str | None, id_key: str | None, label_key: str | None
    ) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            self._name = _vector_name(names, data_key, where)
            with archive.open(f"{self._name}.npy") as stream:
                shape, self._fortran, self._dtype = _header(stream)
            held = archive.getinfo(f"{self._name}.npy").file_size
        self._set(shape, self._dtype, f'"{self._name}" of {where}')
        if self._fortran:
            raise InputError(
                f'"{self._name}" of {where} is stored in column-major order; save it with np.ascontiguousarray'
            )
        check_whole(held, self.count * self.width * self._dtype.itemsize, self._name, where)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            id_name = _beside(names, IDS, id_key, self._name, where, flag="--id-key")
            label_name = _beside(names, LABELS, label_key, self._name, where, flag="--label-key")
            if id_name is not None:
                self.keys = [as_text(value) for value in self._column(arrays, id_name, where)]
            if label_name is not None:
                self.labels = [as_text(value) or None for value in self._column(arrays, label_name, where)]

    def blocks(self) -> Iterator[tuple[int, NDArray[np.floating], Mapping[int, str]]]:
        row_bytes = self.width * self._dtype.itemsize
        with zipfile.ZipFile(self._path) as archive, archive.open(f"{self._name}.npy") as stream:
            _header(stream)
            for start in range(0, self.count, self._step):
                rows = min(self._step, self.count - start)
                data = stream.read(rows * row_bytes)
                if len(data) < rows * row_bytes:
                    raise EOFError(f'"{self._name}" is truncated in row {start + len(data) // row_bytes}')
                yield start, _as(np.frombuffer(data, self._dtype).reshape(rows, self.width), self.kept), {}

    def _column(self, arrays: Any, name: str, where: str) -> list[Any]:
        check_column(arrays.zip.getinfo(f"{name}.npy").file_size, name, where)
        column = arrays[name]
        if column.shape != (self.count,):
            raise InputError(
                f'"{name}" {column.shape} of {where} must match "{self._name}" ({self.count}, {self.width})'
            )
        values: list[Any] = column.tolist()
        return values


class _ParquetRows(_Rows):
    """A column of lists of numbers."""

    def __init__(
        self, path: Path, where: str, data_key: str | None, id_key: str | None, label_key: str | None
    ) -> None:
        self._path, self._where = path, where
        self._parquet = arrow(where)
        with self._parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            lists = vector_columns(file.schema_arrow)
            if data_key is not None and data_key not in names:
                raise InputError(
                    f'{where} has no column "{data_key}" (--data-key); {nearest_name(data_key, names)}'
                )
            self._name = _vector_name(lists, data_key, where)
            self.count = file.metadata.num_rows
            self._id = _beside(names, IDS, id_key, self._name, where, flag="--id-key")
            label = _beside(names, LABELS, label_key, self._name, where, flag="--label-key")
            beside = [name for name in (self._id, label) if name is not None]
            for name in beside:
                check_column(unpacked(file.metadata, name), name, where)
            check_row(unpacked(file.metadata, self._name) // max(1, self.count), where)
            columns = file.read(columns=beside) if beside else None
            value_type = file.schema_arrow.field(self._name).type.value_type
        if columns is not None and self._id is not None:
            self.keys = [as_text(value) for value in columns.column(self._id).to_pylist()]
        if columns is not None and label is not None:
            self.labels = [as_text(value) or None for value in columns.column(label).to_pylist()]
        self.kept = np.dtype(np.float16 if str(value_type) == "halffloat" else np.float32)
        self.width = self._usual_width()

    def blocks(self) -> Iterator[tuple[int, NDArray[np.floating], Mapping[int, str]]]:
        start = 0
        for lengths, values in self._batches():
            faults: dict[int, str] = {}
            right = lengths == self.width
            block = np.full((len(lengths), self.width), np.nan, self.kept)
            if right.all():
                block[:] = values.reshape(len(lengths), self.width)
            else:
                ends = np.cumsum(lengths)
                for place in np.flatnonzero(right).tolist():
                    block[place] = values[ends[place] - self.width : ends[place]]
                for place in np.flatnonzero(~right).tolist():
                    has = int(lengths[place])
                    faults[start + place] = (
                        f"it has {has} numbers, not {self.width}" if has else "it has no vector"
                    )
            yield start, block, faults
            start += len(lengths)

    def _batches(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        """Yield the lengths of rows and their concatenated numbers."""
        with self._parquet.ParquetFile(self._path) as file:
            for batch in file.iter_batches(batch_size=8_192, columns=[self._name]):
                column = batch.column(0)
                if hasattr(column.type, "list_size"):
                    column = column.cast(_variable(column.type))
                lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
                values = column.flatten().to_numpy(zero_copy_only=False)
                yield lengths.astype(np.int64), _as(values, self.kept)

    def _usual_width(self) -> int:
        """Return the most frequent width of the first rows."""
        for lengths, _ in self._batches():
            some = lengths[lengths > 0]
            if len(some):
                return int(np.bincount(some).argmax())
        return 0


def vector_columns(schema: Any) -> list[str]:
    """Return the columns of a Parquet schema that hold lists of numbers."""
    import pyarrow.types as kinds

    return [
        column.name
        for column in schema
        if (
            kinds.is_list(column.type)
            or kinds.is_large_list(column.type)
            or kinds.is_fixed_size_list(column.type)
        )
        and (kinds.is_floating(column.type.value_type) or kinds.is_integer(column.type.value_type))
    ]


def _variable(kind: Any) -> Any:
    """Return the list type without a fixed size, whose null rows store no numbers."""
    import pyarrow as pa

    return pa.list_(kind.value_type)


def _as(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.floating]:
    """Convert values; float32 overflow becomes infinity, which is reported as a fault later."""
    with np.errstate(over="ignore"):
        kept: NDArray[np.floating] = values.astype(dtype, copy=False)
    return kept


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, order and type from the header of an array in a stream."""
    version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)  # type: ignore[no-untyped-call]
    return shape, fortran, dtype


def _vector_name(names: Sequence[str], key: str | None, where: str) -> str:
    """Return the name of the array or column of vectors."""
    if key is not None:
        if key not in names:
            raise InputError(f'{where} has no vectors "{key}" (--data-key); {nearest_name(key, names)}')
        return key
    usual = [name for name in EMBEDDINGS if name in names]
    if usual:
        return usual[0]
    if len(names) == 1:
        return names[0]
    raise InputError(
        f"none of the arrays of {where} has a usual name for vectors (arrays: {', '.join(names) or 'none'}); "
        "choose one: --data-key NAME"
    )


def _beside(
    names: Sequence[str], usual: Sequence[str], key: str | None, vectors: str, where: str, *, flag: str
) -> str | None:
    """Return the array or column of ids or labels, or None."""
    if key is not None and key != NONE:
        if key not in names:
            raise InputError(f'{where} has no "{key}" ({flag}); {nearest_name(key, names)}')
        return key
    wanted = {*usual, *(f"{name}s" for name in usual)}
    return None if key == NONE else next((name for name in names if name in wanted and name != vectors), None)


def _key_faults(keys: Sequence[str]) -> dict[int, str]:
    """Return row -> fault for rows whose id is missing or duplicate."""
    faults: dict[int, str] = {}
    seen: dict[str, int] = {}
    for row, key in enumerate(keys):
        if not key:
            faults[row] = "its id is missing"
        elif seen.setdefault(key, row) != row:
            faults[row] = f'its id is "{key[:80]}", as that of row {seen[key]}'
    return faults

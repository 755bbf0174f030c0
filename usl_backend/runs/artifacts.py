"""Artifacts of one run, each written atomically. Embedding shards shared between runs are in `embedding.shards`.

A stage is done if and only if its artifact exists. Every file is written under a temporary name, flushed to
disk, then renamed; numpy files are read and written with `allow_pickle=False`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import InputError, RunError
from usl_backend.instances import Instance, Pool
from usl_backend.runs.inventory import Inventory
from usl_backend.runs.published import Published, published_from_json, published_to_json
from usl_backend.selection.base import Neighbors, Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.encoders.choosing import EncoderChoice
    from usl_backend.instances import EmbeddedField


def check_folder(path: Path) -> None:
    """Raise InputError if the folder of a file to write does not exist: said before the work, not after it."""
    if not path.parent.is_dir():
        raise InputError(
            f"{path} cannot be written: the folder {path.parent} does not exist; create it first"
        )


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` if the block succeeds and is deleted if it raises.

    Processes and threads may write one file at the same time: the last one wins, and it is always whole.

    Parameters
    ----------
    path
        Final name; an existing file is replaced atomically. Its folder must exist.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class StoredCheckpoint:
    """Training state in one file; implements `selection.base.Checkpoint`.

    Parameters
    ----------
    path
        The file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes | None:
        """Return the stored state, or None if there is none."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        """Replace the stored state atomically."""
        with atomic_write(self.path) as stream:
            stream.write(content)

    def clear(self) -> None:
        """Delete the state once the result of the training is stored."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row of the manifest of a pool outside Label Studio.

    Attributes
    ----------
    row
        Instance id.
    key
        Id given by the manifest.
    label
        Class given by the manifest, if any.
    """

    row: int
    key: str
    label: str | None = None


class RunFiles:
    """Typed access to the artifacts in a run's directory.

    Parameters
    ----------
    directory
        The run's own directory; created if missing.
    """

    INSTANCES: Final = "instances.jsonl"
    ROWS: Final = "rows.jsonl"
    EMBEDDINGS: Final = "embeddings.npy"
    ENCODERS: Final = "encoders.json"
    POOL: Final = "pool.npz"
    NEIGHBORS: Final = "neighbors.npz"
    LABELS: Final = "labels.json"
    CHECKPOINT: Final = "training.pt"
    SELECTION: Final = "selection.npz"
    SELECTION_TEXT: Final = "selection.json"
    PUBLISHED: Final = "published.json"
    READING_BACK: Final = "reading-back"
    LOG: Final = "log.txt"
    LOCK: Final = "lock"
    PART_PREFIX: Final = ".extension-"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def log(self) -> Path:
        """Log file of the run's process."""
        return self.directory / self.LOG

    @property
    def lock(self) -> Path:
        """Lock file, held while the run is computed."""
        return self.directory / self.LOCK

    @property
    def embeddings(self) -> Path:
        """The pool's embeddings, (n, d), an .npy file to memory-map."""
        return self.directory / self.EMBEDDINGS

    def clear_leftovers(self) -> None:
        """Delete what an attempt that was killed had half written: files up to the size of the pool's embeddings.

        Call it only with the run's lock held, before anything is computed.
        """
        for name in (self.INSTANCES, self.ROWS, self.EMBEDDINGS, self.POOL, self.NEIGHBORS, self.CHECKPOINT):
            for left in self.directory.glob(f".{name}.*tmp"):
                left.unlink(missing_ok=True)
        for left in self.directory.glob(f"{self.PART_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)

    # fetch

    def has_instances(self) -> bool:
        """Return True once the instances are listed."""
        return (self.directory / self.INSTANCES).is_file()

    def write_instances(
        self, instances: Iterable[Instance], inventory: Inventory | Callable[[], Inventory]
    ) -> None:
        """Store the listed instances and the inventory of their pool.

        Parameters
        ----------
        instances
            Consumed one by one.
        inventory
            The inventory, or a function that is called after the last instance.
        """
        with tempfile.TemporaryFile(dir=self.directory) as lines:
            for instance in instances:
                lines.write(json.dumps(asdict(instance)).encode() + b"\n")
            listed = inventory() if callable(inventory) else inventory
            lines.seek(0)
            with atomic_write(self.directory / self.INSTANCES) as stream:
                stream.write(json.dumps({"meta": listed.to_json()}).encode() + b"\n")
                shutil.copyfileobj(lines, stream, 1 << 20)

    def read_instances(self) -> list[Instance]:
        """Return the instances in the order in which they were written."""
        return list(self.each_instance())

    def each_instance(self) -> Iterator[Instance]:
        """Yield the instances in the order in which they were written, read one by one."""
        with self._reading(self.INSTANCES) as path, path.open(encoding="utf-8") as stream:
            json.loads(
                next(stream)
            )  # parse the inventory line too: a damaged file must not pass for an empty one
            for line in stream:
                yield Instance.from_json(json.loads(line))

    def read_inventory(self) -> Inventory:
        """Return the inventory of the pool."""
        with self._reading(self.INSTANCES) as path, path.open(encoding="utf-8") as stream:
            return Inventory.from_json(json.loads(next(stream))["meta"])

    @contextmanager
    def writing_rows(self) -> Iterator[Callable[[ManifestRow], None]]:
        """Yield a function that appends one manifest row; the file appears if the block succeeds."""
        with atomic_write(self.directory / self.ROWS) as stream:

            def put(row: ManifestRow) -> None:
                stream.write(json.dumps([row.row, row.key, row.label]).encode() + b"\n")

            yield put

    def read_rows(self) -> Iterator[ManifestRow]:
        """Yield the rows of the pool's manifest; none for a project."""
        try:
            with (self.directory / self.ROWS).open(encoding="utf-8") as stream:
                for line in stream:
                    yield ManifestRow(*json.loads(line))
        except FileNotFoundError:
            return

    # embed

    def has_encoders(self) -> bool:
        """Return True once the encoders are chosen; False for good in runs of earlier versions."""
        return (self.directory / self.ENCODERS).is_file()

    def write_encoders(self, choice: EncoderChoice) -> None:
        """Store the encoders of the run, by which it and its extensions go from then on."""
        with atomic_write(self.directory / self.ENCODERS) as stream:
            stream.write(json.dumps(choice.to_json()).encode())

    def read_encoders(self, setting: str | None, fields: Sequence[EmbeddedField]) -> EncoderChoice:
        """Return the encoders of the run.

        Parameters
        ----------
        setting, fields
            The run's setting `encoder` and its fields, by which runs of earlier versions went; they stored no choice.
        """
        from usl_backend.encoders.choosing import EncoderChoice, choose_encoders

        if not self.has_encoders():
            return choose_encoders(setting, [field.modality for field in fields])
        with self._reading(self.ENCODERS) as path:
            return EncoderChoice.from_json(json.loads(path.read_text(encoding="utf-8")))

    def has_pool(self) -> bool:
        """Return True once the pool is complete."""
        return (self.directory / self.POOL).is_file()

    def write_pool(self, pool: Pool, hashes: Sequence[str]) -> None:
        """Store the pool; embeddings that already are a memory map of `self.embeddings` are not copied.

        Parameters
        ----------
        pool
            Pool of n rows.
        hashes
            Hex content hash of each of the n rows.

        Raises
        ------
        ValueError
            The number of hashes differs from n.
        """
        if len(hashes) != len(pool):
            raise ValueError(f"hashes ({len(hashes)}) must match the pool ({len(pool)})")
        self._write_pool(pool, hashes)

    def write_vectors(self, pool: Pool, digest: str) -> None:
        """Store a pool whose vectors were computed elsewhere.

        Parameters
        ----------
        pool
            Embeddings that are a memory map of another file are not copied; that file must not change afterwards.
        digest
            Hex hash over all rows; `read_pool` returns it as the only content hash.
        """
        mapped = _mapped(pool.embeddings)
        if mapped is None or mapped == self.embeddings.resolve():
            self._write_pool(pool, [digest])
        else:
            self._write_pool(pool, [digest], {"path": str(mapped), "stamp": _stamp(mapped)})

    def _write_pool(
        self, pool: Pool, hashes: Sequence[str], elsewhere: Mapping[str, Any] | None = None
    ) -> None:
        """Write the embeddings, unless they stay in another file, and the pool's index."""
        if elsewhere is None and not (
            _mapped(pool.embeddings) == self.embeddings.resolve() and self.embeddings.is_file()
        ):
            with atomic_write(self.embeddings) as stream:
                np.save(stream, np.asarray(pool.embeddings), allow_pickle=False)
        with atomic_write(self.directory / self.POOL) as stream:
            np.savez(
                stream,
                ids=np.asarray(pool.ids, dtype=np.int64),
                hashes=np.asarray(hashes, dtype="U"),
                skipped=np.asarray(list(pool.skipped), dtype=np.int64),
                reasons=np.asarray(json.dumps(list(pool.skipped.values()))),
                incomplete=np.asarray(json.dumps(list(pool.incomplete.items()))),
                elsewhere=np.asarray(json.dumps(elsewhere)),
                traits=np.empty((0, 0)) if pool.traits is None else pool.traits,
            )

    def read_pool(self) -> tuple[Pool, list[str]]:
        """Return the pool, its embeddings memory-mapped read-only, and the content hash of each row."""
        with self._arrays(self.POOL) as arrays:
            reasons = json.loads(str(arrays["reasons"]))
            skipped = dict(zip(arrays["skipped"].tolist(), reasons, strict=True))
            ids, hashes = arrays["ids"], arrays["hashes"].tolist()
            elsewhere = json.loads(str(arrays["elsewhere"])) if "elsewhere" in arrays else None
            # Pools of former versions have none of these.
            measured = arrays.get("traits")
            traits = measured if measured is not None and len(measured) else None
            incomplete = dict(json.loads(str(arrays["incomplete"]))) if "incomplete" in arrays else {}
        if elsewhere is not None:
            return Pool(ids, self._vectors(Path(elsewhere["path"]), elsewhere["stamp"]), skipped), hashes
        with self._reading(self.EMBEDDINGS) as path:
            # an empty array cannot be mapped
            embeddings = np.load(path, mmap_mode="r" if len(ids) else None, allow_pickle=False)
            return Pool(ids, embeddings, skipped, incomplete, traits), hashes

    def _vectors(self, path: Path, stamp: list[int]) -> NDArray[np.floating]:
        """Memory-map embeddings stored in another file, and check that the file has not changed."""
        run = self.directory.name
        try:
            if _stamp(path) != stamp:
                raise RunError(f"{path} was changed since run {run} read it; start a new run")
            rows: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise RunError(
                f"{path}, the vectors of run {run}, is gone; put it back or start a new run"
            ) from None
        return rows

    # select

    def has_neighbors(self) -> bool:
        """Return True once the neighbor search is stored."""
        return (self.directory / self.NEIGHBORS).is_file()

    def write_neighbors(self, neighbors: Neighbors) -> None:
        """Store a neighbor search over the pool's rows."""
        with atomic_write(self.directory / self.NEIGHBORS) as stream:
            np.savez(
                stream,
                indices=neighbors.indices,
                distances=neighbors.distances,
                exact=np.asarray(neighbors.exact),
            )

    def read_neighbors(self) -> Neighbors:
        """Return the stored neighbor search."""
        with self._arrays(self.NEIGHBORS) as arrays:
            return Neighbors(arrays["indices"], arrays["distances"], bool(arrays["exact"]))

    def has_labels(self) -> bool:
        """Return True once the labels that a next round goes by are stored."""
        return (self.directory / self.LABELS).is_file()

    def write_labels(self, labels: Mapping[int, str]) -> None:
        """Store the class of each labeled instance, by id."""
        with atomic_write(self.directory / self.LABELS) as stream:
            stream.write(json.dumps({str(one): name for one, name in labels.items()}).encode())

    def read_labels(self) -> dict[int, str]:
        """Return the labels that the next round went by."""
        with self._reading(self.LABELS) as path:
            stored: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
            return {int(one): name for one, name in stored.items()}

    def checkpoint(self) -> StoredCheckpoint:
        """Return the checkpoint of a method that trains; it is kept until the selection is stored."""
        return StoredCheckpoint(self.directory / self.CHECKPOINT)

    def has_selection(self) -> bool:
        """Return True once the selection is stored."""
        return (self.directory / self.SELECTION).is_file()

    def write_selection(self, selection: Selection) -> None:
        """Store a selection: arrays as .npz, parameters and diagnostics as JSON."""
        text = {"parameters": dict(selection.parameters), "diagnostics": dict(selection.diagnostics)}
        with atomic_write(self.directory / self.SELECTION_TEXT) as stream:
            stream.write(json.dumps(text, indent=1, default=_plain).encode())
        arrays: dict[str, Any] = {
            "indices": selection.indices,
            "gain": selection.gain,
            "cluster": selection.cluster,
        }
        if selection.score is not None:
            arrays["score"] = selection.score
        with atomic_write(self.directory / self.SELECTION) as stream:
            np.savez(stream, **arrays)

    def read_selection(self) -> Selection:
        """Return the stored selection."""
        with self._reading(self.SELECTION_TEXT) as path:
            text = json.loads(path.read_text(encoding="utf-8"))
        with self._arrays(self.SELECTION) as arrays:
            return Selection(
                indices=arrays["indices"],
                gain=arrays["gain"],
                score=arrays.get("score"),
                cluster=arrays["cluster"],
                parameters=text["parameters"],
                diagnostics=text["diagnostics"],
            )

    # publish

    def has_published(self) -> bool:
        """Return True once the queue is published, or recorded by a dry run."""
        return (self.directory / self.PUBLISHED).is_file()

    def write_published(self, published: Published) -> None:
        """Store the published queue."""
        with atomic_write(self.directory / self.PUBLISHED) as stream:
            stream.write(json.dumps(published_to_json(published), indent=1).encode())

    def read_published(self) -> Published:
        """Return the queue that was published, or that a dry run would have published."""
        with self._reading(self.PUBLISHED) as path:
            return published_from_json(json.loads(path.read_text(encoding="utf-8")))

    @contextmanager
    def reading_back(self, now: float) -> Iterator[float | None]:
        """Leave a mark on disk while the queue is read back; the mark stays if the block raises.

        Parameters
        ----------
        now
            Time by Label Studio's clock, unix s.

        Yields
        ------
        float or None
            When an earlier, interrupted read-back began, whose traces may be left in Label Studio; None if there was
            none.
        """
        mark = self.directory / self.READING_BACK
        since: float | None = None
        if mark.exists():
            try:
                since = float(mark.read_text("ascii"))
            except ValueError:  # an empty mark of a former version
                since = mark.stat().st_mtime
        with atomic_write(mark) as stream:
            stream.write(str(now if since is None else since).encode())
        yield since
        mark.unlink(missing_ok=True)

    @contextmanager
    def _arrays(self, name: str) -> Iterator[Mapping[str, np.ndarray[Any, Any]]]:
        """Open the arrays of an .npz; the file is closed here because numpy leaves a damaged one open."""
        with (
            self._reading(name) as path,
            path.open("rb") as stream,
            np.load(stream, allow_pickle=False) as arrays,
        ):
            yield arrays

    @contextmanager
    def _reading(self, name: str) -> Iterator[Path]:
        """Yield the path of an artifact; raise an error with a remedy if it is missing or damaged."""
        path = self.directory / name
        try:
            yield path
        except FileNotFoundError:
            raise RunError(
                f"run {self.directory.name} has no {name} yet; resume it and wait until it is done"
            ) from None
        except (ValueError, KeyError, TypeError, StopIteration, EOFError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{name} of run {self.directory.name} is damaged ({error}); delete {path} and resume the run"
            ) from error


def _mapped(array: np.ndarray[Any, Any]) -> Path | None:
    """Return the file that an array maps, if any."""
    name = getattr(array, "filename", None)
    return Path(name).resolve() if name is not None else None


def _stamp(path: Path) -> list[int]:
    """Return size and modification time of a file, to detect changes."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _plain(value: object) -> object:
    """Convert numpy scalars and arrays to JSON types."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")

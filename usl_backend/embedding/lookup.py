"""Look up vectors that exist already, in a file or in the tasks' own data."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.embedding.stage import EMBEDDINGS
from usl_backend.encoders import vector_field
from usl_backend.encoders.files import digest_of, find_file
from usl_backend.errors import EncoderError, InputError
from usl_backend.instances import Instance, Pool
from usl_backend.runs.artifacts import atomic_write
from usl_backend.sources import VectorFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.progress import Progress


class Lookup:
    """Takes the place of an encoder for instances whose vectors exist already.

    Parameters
    ----------
    encoder
        `precomputed:NAME`, `precomputed:NAME@FIELD` or `field:FIELD`.
    directory
        The host's directory of weights and vectors.

    Attributes
    ----------
    key : str
        Name of the vectors: the file's content, or the field.
    encoded : int
        Always 0.

    Raises
    ------
    EncoderError
        The file is missing.
    """

    encoded = 0

    def __init__(self, encoder: str, *, directory: Path) -> None:
        self._encoder = encoder
        prefix, _, argument = encoder.partition(":")
        self._path: Path | None = None
        if prefix == "field":
            self.key = f"field-{argument}"
            return
        name = argument.partition("@")[0]
        self._path = find_file(name, directory=directory, encoder=encoder)
        self.key = f"precomputed-{self._path.stem}-{digest_of(self._path)[:12]}"

    def embed(
        self, instances: Sequence[Instance], *, directory: Path, progress: Progress, **_: Any
    ) -> tuple[Pool, list[str]]:
        """Look up every instance's vector, and write the rows by ascending id.

        Parameters
        ----------
        instances
            With distinct ids, in any order.
        directory
            The run's folder; gets `embeddings.npy`.
        progress
            Called once, at the end.

        Returns
        -------
        pool : Pool
            Rows of unit length by ascending id. Instances without a vector, or with one that is not finite, all
            zeros or of another width, are in `skipped`.
        hashes : list of str
            SHA-256 of each row, hexadecimal, in row order.

        Raises
        ------
        EncoderError
            The file cannot be read or has no ids.
        """
        skipped: dict[int, str] = {}
        found = (
            _in_data(instances, skipped)
            if self._path is None
            else self._in_file(self._path, instances, skipped, directory)
        )
        ids, hashes = np.array(sorted(found), dtype=np.int64), []
        width = len(found[int(ids[0])]) if len(ids) else 0
        rows = np.empty((len(ids), width), dtype=np.float32)
        kept = np.ones(len(ids), dtype=bool)
        for place, task in enumerate(ids.tolist()):
            row = np.asarray(found[task], dtype=np.float64)
            length = float(np.linalg.norm(row))
            if length == 0.0:
                skipped[task] = "its vector is all zeros"
                kept[place] = False
                continue
            rows[place] = row / length
            hashes.append(hashlib.sha256(rows[place].tobytes()).hexdigest())
        ids, rows = ids[kept], rows[kept]
        with atomic_write(directory / EMBEDDINGS) as stream:
            np.save(stream, rows, allow_pickle=False)
        progress("looking vectors up", len(instances), len(instances))
        return Pool(ids, rows, skipped), hashes

    def _in_file(
        self, path: Path, instances: Sequence[Instance], skipped: dict[int, str], directory: Path
    ) -> Mapping[int, NDArray[Any]]:
        """Find the vectors in a file, by the instances' ids or keys."""
        copy = directory / "vectors.npy"
        try:
            read = VectorFile(path).read(copy)
        except InputError as error:
            raise EncoderError(f"encoder {self._encoder}: {error}") from error
        by_field = vector_field(self._encoder)
        if read.keys is None and not by_field:
            raise EncoderError(
                f"encoder {self._encoder}: {path} has no ids; save .npz with an array `ids` of task ids, Parquet with "
                "a column `id`, or name a field of the data that holds the row's number: precomputed:NAME@FIELD"
            )
        usable = {row: place for place, row in enumerate(read.pool.ids.tolist())}
        keys = (
            read.keys
            if read.keys is not None
            else [str(row) for row in range(len(usable) + len(read.pool.skipped))]
        )
        # A key given twice is among the skipped; whichever of its rows is found, the reason is the same.
        places = {str(key): row for row, key in enumerate(keys)}
        found: dict[int, NDArray[Any]] = {}
        for instance in instances:
            key = instance.key if by_field else str(instance.id)
            row = places.get(key)
            if row is None:
                skipped[instance.id] = f"{path.name} has no vector for {key!r}"
            elif row in usable:
                found[instance.id] = np.array(read.pool.embeddings[usable[row]])
            else:
                skipped[instance.id] = f"its vector in {path.name} cannot be used: {read.pool.skipped[row]}"
        copy.unlink(missing_ok=True)
        return found


def _in_data(instances: Sequence[Instance], skipped: dict[int, str]) -> Mapping[int, NDArray[Any]]:
    """Find the vectors in the tasks' own data; those of another width than most are skipped."""
    found: dict[int, NDArray[Any]] = {}
    for instance in instances:
        try:
            row = np.asarray(json.loads(instance.key), dtype=np.float64)
        except (ValueError, TypeError):
            skipped[instance.id] = "its vector is not a list of numbers"
            continue
        if row.ndim != 1 or not len(row):
            skipped[instance.id] = "its vector is not a list of numbers"
        elif not np.isfinite(row).all():
            skipped[instance.id] = "it has NaN or infinity in it"
        else:
            found[instance.id] = row
    widths = Counter(len(row) for row in found.values())
    if len(widths) > 1:
        usual, _ = widths.most_common(1)[0]
        for task, row in list(found.items()):
            if len(row) != usual:
                skipped[task] = f"its vector has {len(row)} numbers, most have {usual}"
                del found[task]
    return found

"""What is selected from: instances and the pool of their embeddings. Nothing here reads or writes anything."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Modality = Literal["image", "text"]
MAX_CHARACTERS = 20_000
"""Of a longer text only the beginning counts: some ten pages, a few seconds of work for MiniLM on a core."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One thing that a person could label.

    Attributes
    ----------
    id
        Label Studio task id, else the manifest's row.
    modality
        What `source` leads to.
    source
        Path, URL or Label Studio reference of an image, or the text itself.
    parts
        Sources of the further fields, where several are embedded together.
    key
        What the instance's own vector is found by, or the vector itself as a JSON list, where the encoder only
        looks vectors up; "" elsewhere.
    """

    id: int
    modality: Modality
    source: str
    parts: tuple[str, ...] = ()
    key: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))  # JSON knows lists only


@dataclass(frozen=True)
class Pool:
    """The embedded instances of one run, sorted by id; the only table from rows to ids.

    Attributes
    ----------
    ids : (n,) int64
        Strictly increasing; `ids[row]` is the instance of that row.
    embeddings : (n, d) float32 or float16
        Unit-length rows; may be memory-mapped.
    skipped
        Instance id -> why it could not be read; disjoint from `ids`.
    """

    ids: NDArray[np.int64]
    embeddings: NDArray[np.floating]
    skipped: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.ids) != len(self.embeddings):
            raise ValueError(
                f"embeddings {self.embeddings.shape} must be two-dimensional and match ids ({len(self.ids)},)"
            )
        if len(self.ids) > 1 and not bool(np.all(np.diff(self.ids) > 0)):
            raise ValueError("ids must be strictly increasing")

    def __len__(self) -> int:
        return len(self.ids)


def pool_digest(ids: NDArray[np.int64], content_hashes: list[str], encoder_key: str) -> str:
    """Digest of what a selection was made from: same digest, same rows in the same order.

    Parameters
    ----------
    ids : (n,) int64
        Instance ids in row order.
    content_hashes
        Hex content hash of each row's bytes.
    encoder_key
        Key of the encoder that made the embeddings.

    Returns
    -------
    str
        64 hexadecimal characters.
    """
    digest = hashlib.sha256(encoder_key.encode())
    digest.update(np.ascontiguousarray(ids, dtype="<i8").tobytes())
    for content_hash in content_hashes:
        digest.update(bytes.fromhex(content_hash))
    return digest.hexdigest()

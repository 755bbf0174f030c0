"""What travels between rooms: instances, the pool of their embeddings, and the queue of the chosen ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

Modality = Literal["image", "text"]
Role = Literal["pick", "control", "reserve"]
"""Why an instance is queued: it was picked, drawn for the control set, or kept as a spare behind both."""
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


class EmbeddedField(NamedTuple):
    """A field of a task's data that is embedded.

    Attributes
    ----------
    key
        Name of the field in the data.
    modality
        What it holds.
    weight
        Its share in a row of several fields, relative to the others.
    """

    key: str
    modality: Modality
    weight: float


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a queue.

    Attributes
    ----------
    instance
        Id of the instance: the Label Studio task, or the manifest's row.
    rank
        Position in the queue, 0 first.
    role
        Why it is queued.
    control
        Drawn uniformly from the pool as part of the control set; a pick may be, a spare never is.
    task
        Label Studio task made for an instance from elsewhere; None otherwise.
    """

    instance: int
    rank: int
    role: Role
    control: bool = False
    task: int | None = None

    # Names in stored JSON and HTTP answers, for pydantic.
    __pydantic_config__: ClassVar = {
        "alias_generator": lambda name: {"instance": "task", "task": "studio_task"}.get(name, name)
    }

    def __post_init__(self) -> None:
        if self.role == "control":
            object.__setattr__(self, "control", True)


@dataclass(frozen=True, slots=True)
class Queue:
    """The chosen instances, first to last: picks, then the control set, then the reserve.

    Attributes
    ----------
    places
        By ascending rank, without gaps.
    """

    places: tuple[Place, ...] = ()

    @classmethod
    def of(cls, picks: Iterable[int], *, control: Iterable[int] = (), reserve: Iterable[int] = ()) -> Queue:
        """Line up instance ids.

        Parameters
        ----------
        picks
            In rank order.
        control
            The control set; members that are picks keep the place of a pick.
        reserve
            Spares, best first; disjoint from both.
        """
        chosen, drawn = tuple(picks), tuple(control)
        taken, tested = set(chosen), set(drawn)
        behind = [one for one in drawn if one not in taken]
        roles: list[tuple[int, Role]] = [
            *((one, "pick") for one in chosen),
            *((one, "control") for one in behind),
            *((one, "reserve") for one in reserve),
        ]
        return cls(
            tuple(
                Place(int(one), rank, role, control=one in tested) for rank, (one, role) in enumerate(roles)
            )
        )

    def __len__(self) -> int:
        return len(self.places)

    @property
    def instances(self) -> tuple[int, ...]:
        """Ids of all instances, first to last."""
        return tuple(place.instance for place in self.places)

    @property
    def control_set(self) -> tuple[int, ...]:
        """Ids of the instances drawn for the control set, picks among them."""
        return tuple(place.instance for place in self.places if place.control)

    def of_role(self, role: Role) -> tuple[int, ...]:
        """Ids of the instances in a role, first to last."""
        return tuple(place.instance for place in self.places if place.role == role)


@dataclass(frozen=True, slots=True)
class QueueState:
    """What publishing changed in a project and what was there before: enough to put it back.

    Attributes
    ----------
    run_id, model_version, sampling
        The run in force, its model version and the sampling it needs.
    view_id
        Its tab; None until that is made.
    default_view_id
        The Default tab that had to be made first; None when the project had tabs of its own.
    original_sampling, original_model_version
        The user's settings before our first run (model version None: never set).
    """

    run_id: str
    model_version: str
    sampling: str
    view_id: int | None
    default_view_id: int | None
    original_sampling: str
    original_model_version: str | None

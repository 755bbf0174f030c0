"""Data types shared by all packages: instances, the pool of their embeddings, the queue of the selected ones."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray

Modality = Literal["image", "text"]
RUN_ID: Final = re.compile(r"(?:[0-9]+|(?P<pool>[a-z][a-z0-9_]*))-[0-9]+", re.ASCII)
"""Id of a run over a project, such as 12-7, or over a pool outside Label Studio, such as photos-3."""
Role = Literal["pick", "control", "reserve"]
"""Why an instance is queued: picked, drawn for the control set, or a spare after both."""
FEWEST_CONTROLS = 20
"""Labeled tasks of a control set without which nothing is measured on it."""
MAX_CHARACTERS = 20_000
"""Longer texts are truncated: about ten pages, a few seconds of MiniLM on one core."""


class TextFile(NamedTuple):
    """How the text of a field is read from files; the field holds their addresses.

    Attributes
    ----------
    key
        Name of the field, for messages.
    shown_by
        Object tag that shows the files: `Pdf`, `Text`, `HyperText` or `Paragraphs`.
    encoding, name_key, text_key
        As the object tag has them.
    """

    key: str
    shown_by: str = "Pdf"
    encoding: str = "none"
    name_key: str = "author"
    text_key: str = "text"


@dataclass(frozen=True, slots=True)
class Instance:
    """One thing to label: an image or text, or several of them that one task shows together.

    Attributes
    ----------
    id
        Label Studio task id, else the manifest's row.
    modality
        Kind of media that `source` refers to.
    source
        Path, URL or Label Studio reference of an image or of a file with the text, or the text itself. Of several it
        is the first, which stands for the instance where only one can be shown.
    more
        The further ones, if the embedded field shows several. The instance's row is the mean of theirs.
    fields
        What each further field shows, in order, if several fields are embedded together.
    key
        For the encoder that looks vectors up: the key of the instance's vector, or the vector itself as a JSON
        list; "" otherwise.
    files
        How texts are read from files, one entry per field, None where a field holds none; empty where no field does.
    """

    id: int
    modality: Modality
    source: str
    more: tuple[str, ...] = ()
    fields: tuple[tuple[str, ...], ...] = ()
    key: str = ""
    files: tuple[TextFile | None, ...] = ()

    @property
    def file(self) -> TextFile | None:
        """How the text of the first field is read from files; None if it shows images or holds the text itself."""
        return self.files[0] if self.files else None

    @property
    def located(self) -> bool:
        """True if the source says where a file is, False if it is the text itself."""
        return self.modality == "image" or self.file is not None

    @property
    def sources(self) -> tuple[str, ...]:
        """Everything that the first field shows, in order."""
        return (self.source, *self.more)

    @property
    def parts(self) -> tuple[Instance, ...]:
        """The instance once for each distinct source of its first field, with that source only."""
        if not self.more and not self.fields:
            return (self,)
        files = self.files[:1]
        return tuple(
            replace(self, source=one, more=(), fields=(), files=files) for one in dict.fromkeys(self.sources)
        )

    def of_field(self, number: int, modality: Modality) -> Instance:
        """Return the instance with what one of its fields shows only, 0 being the first."""
        first, *more = self.sources if number == 0 else self.fields[number - 1]
        files = self.files[number : number + 1]
        return replace(self, modality=modality, source=first, more=tuple(more), fields=(), files=files)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read the JSON object of an instance, also one that an earlier version stored."""
        former = [[source] for source in values.get("parts", ())]  # former form: one source per further field
        return cls(
            id=values["id"],
            modality=values["modality"],
            source=values["source"],
            more=tuple(values.get("more", ())),
            fields=tuple(tuple(sources) for sources in values.get("fields", former)),
            key=values.get("key", ""),
            files=tuple(None if one is None else TextFile(*one) for one in values.get("files", ())),
        )


@dataclass(frozen=True)
class Pool:
    """The embedded instances of one run, sorted by id; the only mapping from rows to ids.

    Attributes
    ----------
    ids : (n,) int64
        Strictly increasing; `ids[row]` is the instance of that row.
    embeddings : (n, d) float32 or float16
        Unit-length rows; may be memory-mapped.
    skipped
        Instance id -> reason why it could not be read; disjoint from `ids`.
    incomplete
        Instance id -> which of its several pictures or texts are missing from its row, and why; among `ids`.
    traits : (n, 4) float, or None
        What was measured on the picture or text of each row, columns as in `outliers.Traits`; NaN or None where nothing
        was. Of several pictures or texts it is the largest of each number.
    """

    ids: NDArray[np.int64]
    embeddings: NDArray[np.floating]
    skipped: Mapping[int, str] = field(default_factory=dict)
    incomplete: Mapping[int, str] = field(default_factory=dict)
    traits: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.ids) != len(self.embeddings):
            raise ValueError(
                f"embeddings {self.embeddings.shape} must be two-dimensional and match ids ({len(self.ids)},)"
            )
        if len(self.ids) > 1 and not bool((self.ids[1:] > self.ids[:-1]).all()):
            raise ValueError("ids must be strictly increasing")

    def __len__(self) -> int:
        return len(self.ids)

    def rows_of(self, ids: Iterable[int]) -> NDArray[np.int64]:
        """Return the rows of these ids, ascending; ids that are not in the pool are ignored."""
        import numpy as np

        return np.flatnonzero(np.isin(self.ids, np.fromiter(ids, dtype=np.int64)))

    def row_of(self, instance: int) -> int | None:
        """Return the row of an id; None if it is not in the pool."""
        row = int(self.ids.searchsorted(instance))
        return row if row < len(self.ids) and self.ids[row] == instance else None


def pool_digest(ids: NDArray[np.int64], content_hashes: list[str], encoder_key: str) -> str:
    """Compute the digest of a selection's input: equal digests mean equal rows in equal order.

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
    digest.update(ids.astype("<i8").tobytes())
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
        Kind of media in the field.
    weight
        Weight of the field in the embedding of several fields, relative to the others.
    in_files
        True for texts that are read from files.
    """

    key: str
    modality: Modality
    weight: float
    in_files: bool = False

    @property
    def holds(self) -> Modality:
        """What the data hold: "text" for texts, "image" for addresses of files."""
        return "image" if self.in_files else self.modality


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of a queue.

    Attributes
    ----------
    instance
        Instance id: the Label Studio task, or the manifest's row.
    rank
        Position in the queue, 0 first.
    role
        Why the instance is queued.
    control
        Member of the control set, drawn uniformly from the pool; a pick may be one, a spare never is.
    task
        Label Studio task created for an instance of a pool outside Label Studio; None otherwise.
    asked
        True for a spare that somebody asked for after the run; those come before the others.
    """

    instance: int
    rank: int
    role: Role
    control: bool = False
    task: int | None = None
    asked: bool = False

    # pydantic: names in stored JSON and HTTP answers
    __pydantic_config__: ClassVar = {
        "alias_generator": lambda name: {"instance": "task", "task": "studio_task"}.get(name, name)
    }

    def __post_init__(self) -> None:
        if self.role == "control":
            object.__setattr__(self, "control", True)


@dataclass(frozen=True, slots=True)
class Queue:
    """The selected instances in labeling order: picks, then the control set, then the reserve.

    Attributes
    ----------
    places
        Entries by ascending rank, without gaps.
    """

    places: tuple[Place, ...] = ()

    @classmethod
    def of(cls, picks: Iterable[int], *, control: Iterable[int] = (), reserve: Iterable[int] = ()) -> Queue:
        """Build a queue from instance ids.

        Parameters
        ----------
        picks
            Picks in rank order.
        control
            The control set; members that are picks stay at their pick's rank.
        reserve
            Spares, best first; disjoint from picks and control set.
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

    def with_control(self, drawn: Iterable[int]) -> Queue:
        """Return the queue with more members of the control set, behind those that it has.

        Parameters
        ----------
        drawn
            Ids, queued or not; picks stay at their rank, spares move up.
        """
        more = tuple(drawn)
        moved = set(more)
        grown = Queue.of(
            self.of_role("pick"),
            control=(*self.control_set, *more),
            reserve=(one for one in self.of_role("reserve") if one not in moved),
        )
        return self._kept(grown, asked=set(self.asked))

    def with_asked(self, tasks: Iterable[int]) -> Queue:
        """Return the queue with these spares before the others, behind those asked for earlier.

        Parameters
        ----------
        tasks
            Ids, queued as spares or not; picks and control set stay at their rank.
        """
        ahead = {*self.of_role("pick"), *self.of_role("control")}
        asked = tuple(dict.fromkeys((*self.asked, *(one for one in tasks if one not in ahead))))
        behind = (one for one in self.of_role("reserve") if one not in set(asked))
        grown = Queue.of(self.of_role("pick"), control=self.control_set, reserve=(*asked, *behind))
        return self._kept(grown, asked=set(asked))

    def without_asked(self, tasks: Iterable[int]) -> Queue:
        """Return the queue without these spares that were asked for; others stay."""
        gone = set(tasks) & set(self.asked)
        left = Queue.of(
            self.of_role("pick"),
            control=self.control_set,
            reserve=(one for one in self.of_role("reserve") if one not in gone),
        )
        return self._kept(left, asked=set(self.asked) - gone)

    def _kept(self, changed: Queue, *, asked: set[int]) -> Queue:
        """Give the places of a changed queue their tasks of this one, and mark those asked for."""
        tasks = {place.instance: place.task for place in self.places}
        return Queue(
            tuple(
                replace(
                    place,
                    task=tasks.get(place.instance),
                    asked=place.role == "reserve" and place.instance in asked,
                )
                for place in changed.places
            )
        )

    def __len__(self) -> int:
        return len(self.places)

    @property
    def instances(self) -> tuple[int, ...]:
        """Ids of all instances, in queue order."""
        return tuple(place.instance for place in self.places)

    @property
    def tasks(self) -> tuple[int, ...]:
        """Label Studio tasks of all instances, in queue order; equal to `instances` unless tasks were made for them."""
        return tuple(place.instance if place.task is None else place.task for place in self.places)

    @property
    def control_set(self) -> tuple[int, ...]:
        """Ids of the control set, including those that are picks."""
        return tuple(place.instance for place in self.places if place.control)

    @property
    def asked(self) -> tuple[int, ...]:
        """Ids of the spares that somebody asked for after the run, in queue order."""
        return tuple(place.instance for place in self.places if place.asked)

    def of_role(self, role: Role) -> tuple[int, ...]:
        """Return the ids of the instances in a role, in queue order."""
        return tuple(place.instance for place in self.places if place.role == role)


@dataclass(frozen=True, slots=True)
class QueueState:
    """Changes that publishing made to a project, and the previous settings needed to undo them.

    Attributes
    ----------
    run_id, model_version, sampling
        The run that owns the published queue, its model version and the sampling it needs.
    view_id
        Id of the queue's tab; None until it is created.
    default_view_id
        Id of the Default tab that had to be created first; None if the project already had tabs.
    original_sampling, original_model_version
        The user's settings before our first run (model version None: never set).
    extended
        Tasks queued behind the published ones since, in labeling order.
    replaced
        Versions that this one replaced and that Label Studio may still hold, the latest first: whoever had a task open
        then submits an annotation that was begun from a prediction of it.
    """

    run_id: str
    model_version: str
    sampling: str
    view_id: int | None
    default_view_id: int | None
    original_sampling: str
    original_model_version: str | None
    extended: tuple[int, ...] = ()
    replaced: tuple[str, ...] = ()

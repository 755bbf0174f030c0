"""Summary of a finished run, stored in its record; `pipeline.summarize` builds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usl_backend.runs.published import Destination, Verified, adapter_of

if TYPE_CHECKING:
    from usl_backend.instances import Pool
    from usl_backend.outliers import Outliers


@dataclass(frozen=True)
class ProjectNote:
    """Source project of the instances; attributes as in `Inventory`."""

    id: int = 0
    key: str = ""
    title: str = ""
    data_key: str = ""
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BudgetNote:
    """The requested budget as text, None for the default, and the resulting number of picks."""

    asked: str | None = None
    resolved: int = 0
    default: bool = False


@dataclass(frozen=True)
class PoolNote:
    """Task counts.

    Attributes
    ----------
    tasks, annotated, unlabeled
        All tasks, those with an annotation, and the rest.
    readable, skipped
        Unlabeled tasks that were embedded, and those that could not be read.
    several
        Tasks that show several images or texts, embedded as the mean of theirs.
    incomplete
        Tasks of which some of several images or texts could not be read and are missing from the mean.
    encoded
        Embeddings that were not in the cache; None if an earlier attempt built the pool.
    passed_over
        As in `Listed`.
    """

    tasks: int = 0
    annotated: int = 0
    unlabeled: int = 0
    readable: int = 0
    skipped: int = 0
    encoded: int | None = None
    passed_over: str = ""
    several: int = 0
    incomplete: int = 0


@dataclass(frozen=True)
class ReasonCount:
    """A kind of reading error and its count."""

    kind: str
    count: int


@dataclass(frozen=True)
class Unread:
    """A task that could not be read, and the reason."""

    task: int
    reason: str


@dataclass(frozen=True)
class SkippedNote:
    """Tasks that could not be read: total, counts by kind of reason, and the first ones."""

    count: int = 0
    kinds: tuple[ReasonCount, ...] = ()
    first: tuple[Unread, ...] = ()


@dataclass(frozen=True)
class Outlier:
    """An outlier, why it is one, and its rank among the picks, 0 first; None if it is no pick."""

    task: int
    reason: str
    rank: int | None = None


@dataclass(frozen=True)
class OutlierNote:
    """Outliers of the pool.

    Attributes
    ----------
    known
        Tasks on which something was measured; of the others it is not known.
    count, picks
        Outliers among them, and those that are picks.
    kept_out
        They were kept out of the picks, but for those that were asked for.
    kinds
        Counts by reason.
    first
        Some of them: the picks first, by rank, then by id.
    """

    known: int = 0
    count: int = 0
    picks: int = 0
    kept_out: bool = False
    kinds: tuple[ReasonCount, ...] = ()
    first: tuple[Outlier, ...] = ()

    @property
    def described(self) -> str:
        """Counts by reason: "300 noise, 1 one color"."""
        return ", ".join(f"{one.count:,} {one.kind}" for one in self.kinds)


def outlier_note(
    outliers: Outliers, pool: Pool, *, picks: Sequence[int], kept_out: bool, shown: int
) -> OutlierNote:
    """Note the outliers of a pool.

    Parameters
    ----------
    outliers
        Rows of the pool, and why.
    pool
        The embedded tasks.
    picks
        Ids in rank order.
    kept_out
        As in `OutlierNote`.
    shown
        Number of outliers to name.
    """
    ranks = {task: rank for rank, task in enumerate(picks)}
    found = [
        Outlier(task, reason, ranks.get(task))
        for task, reason in zip(pool.ids[outliers.rows].tolist(), outliers.reasons, strict=True)
    ]
    found.sort(key=lambda one: (len(ranks) if one.rank is None else one.rank, one.task))
    return OutlierNote(
        known=outliers.known,
        count=len(found),
        picks=sum(one.rank is not None for one in found),
        kept_out=kept_out,
        kinds=tuple(ReasonCount(*kind) for kind in Counter(outliers.reasons).most_common()),
        first=tuple(found[:shown]),
    )


@dataclass(frozen=True)
class MethodNote:
    """The selection method with its resolved parameters and its diagnostics; long lists are truncated."""

    name: str = ""
    preset: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def described(self) -> str:
        """Name, preset and the number of neighbors looked at: "usl with 7 neighbors"; "" where nothing was chosen."""
        preset = f" {self.preset}" if self.preset else ""
        used = self.diagnostics.get("neighbors")
        looked = f" with {used} {'neighbor' if used == 1 else 'neighbors'}" if used else ""
        return f"{self.name}{preset}{looked}"

    @property
    def next_round(self) -> str:
        """The rule of a next round and why, in one sentence; "" for a run that was none."""
        return str(self.diagnostics.get("next", {}).get("why", ""))


@dataclass(frozen=True)
class EncoderNote:
    """The encoder.

    Attributes
    ----------
    name, key
        Its name and cache key.
    image_size
        Side of its input images in pixels if that was set.
    reason
        Why it and not the usual default was chosen by itself; "" otherwise.
    engine
        What computed it, such as "OpenVINO in float32"; "" for the usual engine.
    """

    name: str = ""
    key: str = ""
    image_size: int | None = None
    reason: str = ""
    engine: str = ""


@dataclass(frozen=True)
class Tab:
    """The Data Manager tab that shows the queue."""

    id: int
    url: str


@dataclass(frozen=True)
class Summary:
    """Summary of a run over a project.

    Attributes
    ----------
    project, budget, pool, skipped, method, encoder, outliers
        See their types.
    seed
        Seed of the selection.
    picks, control, reserve
        Sizes of the three parts of the queue; control-set members that are picks count in both.
    model_version, tab, verified
        As in `Published`.
    carried_over
        Number of tasks whose pre-annotation was copied into the queue's predictions.
    warnings
        One sentence each.
    seconds
        Wall time in seconds of each stage that the last attempt computed.
    dry_run
        Nothing was written to Label Studio.
    """

    project: ProjectNote = ProjectNote()
    budget: BudgetNote = BudgetNote()
    pool: PoolNote = PoolNote()
    skipped: SkippedNote = SkippedNote()
    method: MethodNote = MethodNote()
    encoder: EncoderNote = EncoderNote()
    outliers: OutlierNote = OutlierNote()
    seed: int = 0
    picks: int = 0
    control: int = 0
    reserve: int = 0
    model_version: str | None = None
    tab: Tab | None = None
    verified: Verified | None = None
    carried_over: int = 0
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    dry_run: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return one JSON object."""
        kind: Any = type(self)
        made: dict[str, Any] = adapter_of(kind).dump_python(self, mode="json")
        for name in ("passed_over", "several", "incomplete"):
            if not made["pool"][name]:
                del made["pool"][name]
        if not self.outliers.known:
            del made["outliers"]
        return made


@dataclass(frozen=True)
class PoolSummary(Summary):
    """Summary of a run over a pool outside Label Studio.

    Attributes
    ----------
    imported
        Project into which the picks were imported; None if they were not.
    selection
        Path of the table of the picks.
    """

    imported: Destination | None = None
    selection: str = ""


def summary_from_json(values: Mapping[str, Any]) -> Summary | None:
    """Read a stored summary; None for the empty summary of an unfinished run."""
    if not values:
        return None
    kind: Any = PoolSummary if "selection" in values else Summary
    found: Summary = adapter_of(kind).validate_python(values)
    return found

"""What a report says, as plain values and as files of the run's directory. Nothing is computed here.

Instances are named by their ids throughout: whoever reads a report needs no pool.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from usl_backend.runs.artifacts import written_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.runs import RunFiles

FOLDER: Final = "report"
"""Of the run's directory."""
TEXT: Final = "report.json"
MAP: Final = "map.npz"
DIMENSIONS: Final = 128
"""Principal components in which the report compares instances, whatever the method did."""
LAYOUT = 1
"""Counts changes of what is stored: a report of another layout is computed again."""

Verdict = Literal["clear", "small", "none"]


@dataclass(frozen=True)
class Why:
    """Why one task was picked.

    Attributes
    ----------
    rank, task
        Place in the pick order, 0 first, and instance id.
    size
        Tasks that it stands for: those of its cluster, itself included.
    share
        The same as a share of the pool, 0 to 1.
    density_percentile
        Share of the pool that is less typical, 0 to 100; higher = more typical.
    nearest_rank, nearest_task
        The nearest other pick; None where there is no other.
    distance
        Distance to it, 0 to 2 (rows have length 1): small = nearly the same; None where there is no other.
    gain
        What the method itself says the pick added; non-negative, higher = more, comparable within a run.
    covered
        Share of the pool that came within reach with this pick, 0 to 1.
    coverage
        Share of the pool within reach after this pick, 0 to 1.
    """

    rank: int
    task: int
    size: int
    share: float
    density_percentile: float
    nearest_rank: int | None
    nearest_task: int | None
    distance: float | None
    gain: float
    covered: float
    coverage: float


@dataclass(frozen=True)
class ClusterView:
    """A pick beside what it stands for.

    Attributes
    ----------
    rank
        Of the pick.
    runner_up
        Who would stand for the cluster without the pick; None where it stands for nothing but copies of itself.
    members
        A handful of the cluster, from near the pick to far from it.
    """

    rank: int
    runner_up: int | None
    members: tuple[int, ...]


@dataclass(frozen=True)
class Low:
    """One of the least typical tasks; `density_percentile` as in `Why`."""

    task: int
    density_percentile: float


@dataclass(frozen=True)
class Stability:
    """What other seeds of the same method choose.

    Attributes
    ----------
    seeds
        Other seeds tried.
    same_tasks
        Share of the picks that another seed picks too, 0 to 1; mean over the seeds.
    same_clusters
        Share of the clusters in which another seed has a pick, 0 to 1; mean over the seeds.
    same_clusters_random
        The same for random selections: what chance alone gives.
    coverage_low, coverage_high
        Range of the coverage over all seeds, the run's own included, 0 to 1.
    """

    seeds: int
    same_tasks: float
    same_clusters: float
    same_clusters_random: float
    coverage_low: float
    coverage_high: float


@dataclass(frozen=True)
class Trust:
    """Whether the picks are worth more than random ones, without any label.

    Attributes
    ----------
    verdict
        "clear": the picks cover more than nearly all random draws; "small": hardly more; "none": no more.
    radius
        Distance up to which a task counts as covered, 0 to 2.
    picks, random_mean, random_low, random_high
        Coverage after 1..m picks, 0 to 1; of the random draws the mean and the middle nine tenths.
    draws, evaluated
        Random selections compared with, and tasks that shares were counted on.
    matched
        Picks after which the coverage of all m random ones (their mean) is reached; None if never.
    near_duplicate_share
        Share of the pool that repeats another task, 0 to 1.
    near_duplicate_groups
        Groups of such tasks.
    effective_clusters
        exp of the entropy of the cluster sizes: as many equal clusters would be as uneven. 1 to m.
    largest_share, smallest_size
        Share of the pool in the largest cluster, tasks in the smallest.
    stability
        None where it was not computed; `stability_note` says why.
    """

    verdict: Verdict
    radius: float
    picks: tuple[float, ...]
    random_mean: tuple[float, ...]
    random_low: tuple[float, ...]
    random_high: tuple[float, ...]
    draws: int
    evaluated: int
    matched: int | None
    near_duplicate_share: float
    near_duplicate_groups: int
    effective_clusters: float
    largest_share: float
    smallest_size: int
    stability: Stability | None
    stability_note: str | None


@dataclass(frozen=True)
class TrainingFigures:
    """What came of a training before the selection.

    Attributes
    ----------
    clusters, clusters_in_use
        Clusters that were to be learned, and those that have an instance.
    split
        Clusters made by halving the largest, because too few were in use.
    largest_over_mean
        Size of the largest cluster in mean sizes; 1 = all equal.
    confidence_histogram
        Instances whose largest probability is in each tenth from 0 to 1.
    agreement
        Normalised mutual information between heads, 0 to 1; None for one head.
    local_loss, global_loss
        Per epoch; lower = better.
    reseeded
        Clusters that started anew.
    warnings
        Sentences for people.
    """

    clusters: int
    clusters_in_use: int
    split: int
    largest_over_mean: float
    confidence_histogram: tuple[int, ...]
    agreement: float | None
    local_loss: tuple[float, ...]
    global_loss: tuple[float, ...]
    reseeded: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class MapNote:
    """How the map was made.

    Attributes
    ----------
    method
        "umap" or "pca".
    note
        Why this one, where it was not the first choice; else "".
    shown
        Instances on the map.
    """

    method: Literal["umap", "pca"]
    note: str
    shown: int


@dataclass(frozen=True)
class Report:
    """All figures of one run's report.

    Attributes
    ----------
    instances
        In the pool.
    modality
        Of all of them.
    whys, clusters
        Per pick, in pick order.
    lowest
        Least typical first.
    duplicates
        Groups of near-duplicates, largest first, the one that stands for it first in each; at most a handful of
        each group and `duplicate_sizes` says how many there are.
    skipped
        Instance id -> why it could not be read.
    controls
        Instances of the control set, in queue order.
    training
        What the method learned before it chose; None for a method that does not train.
    """

    layout: int
    instances: int
    modality: Literal["image", "text"]
    whys: tuple[Why, ...]
    clusters: tuple[ClusterView, ...]
    lowest: tuple[Low, ...]
    duplicates: tuple[tuple[int, ...], ...]
    duplicate_sizes: tuple[int, ...]
    skipped: Mapping[int, str]
    trust: Trust
    map: MapNote
    controls: tuple[int, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    training: TrainingFigures | None = None


@dataclass(frozen=True)
class MapPoints:
    """Every point of the map.

    Attributes
    ----------
    ids : (s,) int64
        Instances shown.
    points : (s, 2) float32
        Places, in no unit.
    cluster : (s,) int32
        Rank of the pick that stands for each; -1 where a labeled task does.
    density : (s,) uint8
        Density percentile, 0 to 100.
    rank : (s,) int32
        Rank of picks; -1 for all others.
    """

    ids: NDArray[np.int64]
    points: NDArray[np.float32]
    cluster: NDArray[np.int32]
    density: NDArray[np.uint8]
    rank: NDArray[np.int32]


_ADAPTER: TypeAdapter[Report] = TypeAdapter(Report)


def folder(files: RunFiles) -> Path:
    """Where the report of a run lies; created when missing."""
    path = files.directory / FOLDER
    path.mkdir(exist_ok=True)
    return path


def save(files: RunFiles, report: Report, points: MapPoints) -> None:
    """Store a report; it is there for others when both files are."""
    with written_whole(folder(files) / MAP) as stream:
        np.savez(
            stream,
            ids=points.ids,
            points=points.points,
            cluster=points.cluster,
            density=points.density,
            rank=points.rank,
        )
    with written_whole(folder(files) / TEXT) as stream:
        stream.write(_ADAPTER.dump_json(report, indent=1))


def load(files: RunFiles) -> Report | None:
    """The stored report; None where there is none, or none that this version understands."""
    try:
        report = _ADAPTER.validate_json((files.directory / FOLDER / TEXT).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return report if report.layout == LAYOUT and (files.directory / FOLDER / MAP).is_file() else None


def load_map(files: RunFiles) -> MapPoints | None:
    """The stored map; None where there is none that can be read."""
    try:
        with (
            (files.directory / FOLDER / MAP).open("rb") as stream,
            np.load(stream, allow_pickle=False) as arrays,
        ):
            return MapPoints(**{name: arrays[name] for name in MapPoints.__dataclass_fields__})
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None

"""Data types of a report and their files in the run's directory.

Instances are identified by id throughout, so reading a report does not require the pool.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from usl_backend.runs.artifacts import atomic_write
from usl_backend.runs.summary import OutlierNote

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.runs import RunFiles

FOLDER: Final = "report"
"""Folder in the run's directory."""
TEXT: Final = "report.json"
MAP: Final = "map.npz"
DIMENSIONS: Final = 128
"""Number of principal components in which the report compares instances, for any method."""
LAYOUT = 1
"""Version of the stored data; a report of another version is computed again."""

Verdict = Literal["clear", "small", "none"]


@dataclass(frozen=True)
class Why:
    """Reasons for one pick.

    Attributes
    ----------
    rank, task
        Position in the pick order, 0 first, and instance id.
    size
        Number of tasks that it represents: its cluster, itself included.
    share
        `size` as a share of the pool, 0 to 1.
    density_percentile
        Share of the pool that is less typical, 0 to 100; higher = more typical.
    nearest_rank, nearest_task
        The nearest other pick, or None.
    distance
        Distance to it, 0 to 2 (rows have length 1): small = nearly identical; None if there is no other pick.
    gain
        Gain of the pick according to the method; non-negative, higher = more, comparable within a run.
    covered
        Share of the pool newly covered by this pick, 0 to 1.
    coverage
        Share of the pool covered after this pick, 0 to 1.
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
    """A pick and its cluster.

    Attributes
    ----------
    rank
        Rank of the pick.
    runner_up
        Task that would represent the cluster without the pick; None if the cluster has only near-duplicates of it.
    members
        A few members of the cluster, sorted by distance to the pick.
    name
        Words that its texts have and others lack; "" for pictures, and where there are none.
    """

    rank: int
    runner_up: int | None
    members: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True)
class Low:
    """One of the least typical tasks; `density_percentile` as in `Why`."""

    task: int
    density_percentile: float


@dataclass(frozen=True)
class Stability:
    """Agreement of the picks with those of other seeds of the same method.

    Attributes
    ----------
    seeds
        Number of other seeds tried.
    same_tasks
        Share of the picks that another seed picks too, 0 to 1; mean over the seeds.
    same_clusters
        Share of the clusters in which another seed has a pick, 0 to 1; mean over the seeds.
    same_clusters_random
        The same for random selections from the unlabeled tasks: agreement by chance.
    coverage_low, coverage_high
        Range of the coverage over all seeds, including the run's own, 0 to 1.
    tasks
        Number of tasks, evenly spaced, that all these selections were made from, the run's own seed's too; None if
        from the whole pool.
    """

    seeds: int
    same_tasks: float
    same_clusters: float
    same_clusters_random: float
    coverage_low: float
    coverage_high: float
    tasks: int | None = None


@dataclass(frozen=True)
class Trust:
    """Comparison of the picks with random ones, without labels.

    Attributes
    ----------
    verdict
        "clear": the picks cover more than nearly all random draws; "small": slightly more; "none": no more.
    radius
        Distance up to which a task counts as covered, 0 to 2.
    picks, random_mean, random_low, random_high
        Coverage after 1..m picks, 0 to 1; for the random draws, mean, 5 % and 95 % quantile.
    draws, evaluated
        Number of random selections, and of tasks on which coverage was measured.
    matched
        Number of picks that reach the mean coverage of m random ones; None if never.
    near_duplicate_share
        Share of the pool that is a near-duplicate of another task, 0 to 1.
    near_duplicate_groups
        Number of groups of such tasks.
    effective_clusters
        exp of the entropy of the cluster sizes: the number of equal clusters with that entropy. 1 to m.
    largest_share, smallest_size
        Share of the pool in the largest cluster, number of tasks in the smallest.
    stability
        Agreement with other seeds; None if not computed, as explained by `stability_note`.
    near_duplicates_merged
        True if the method counted each such group as one task; False if it took each task for itself.
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
    near_duplicates_merged: bool = True


@dataclass(frozen=True)
class TrainingFigures:
    """Figures of the training that preceded the selection.

    Attributes
    ----------
    clusters, clusters_in_use
        Number of clusters to learn, and of those that have an instance.
    split
        Number of clusters added by halving the largest, because too few were in use.
    largest_over_mean
        Size of the largest cluster divided by the mean size; 1 = all equal.
    confidence_histogram
        Number of instances whose largest probability is in each tenth from 0 to 1.
    agreement
        Normalized mutual information between heads, 0 to 1; None for one head.
    local_loss, global_loss
        Loss per epoch; lower = better.
    reseeded
        Number of reinitialized clusters.
    warnings
        Sentences for users.
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
    """Method of the map.

    Attributes
    ----------
    method
        "umap" or "pca".
    note
        Why this method was used if it was not the first choice, or what it was computed on if not on all; else "".
    shown
        Number of instances on the map.
    """

    method: Literal["umap", "pca"]
    note: str
    shown: int


@dataclass(frozen=True)
class Report:
    """The report of one run.

    Attributes
    ----------
    instances
        Number of instances in the pool.
    modality
        What is shown of the instances: a thumbnail each, or their texts.
    whys, clusters
        Reasons and cluster of each pick, in pick order.
    lowest
        Least typical tasks, the least typical first.
    duplicates
        Groups of near-duplicates, largest first, the representative first in each; groups are truncated, and
        `duplicate_sizes` has their full sizes.
    skipped
        Instance id -> reason why it could not be read.
    training
        Figures of the training; None for a method that does not train.
    regions
        As in `Inventory`.
    outliers
        Outliers of the pool; None in reports of former versions.
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
    seconds: Mapping[str, float] = field(default_factory=dict)
    training: TrainingFigures | None = None
    regions: bool = False
    outliers: OutlierNote | None = None


@dataclass(frozen=True)
class MapPoints:
    """The points of the map.

    Attributes
    ----------
    ids : (s,) int64
        Instances shown.
    points : (s, 2) float32
        Coordinates, without unit.
    cluster : (s,) int32
        Rank of the pick that represents each.
    density : (s,) uint8
        Density percentile, 0 to 100.
    rank : (s,) int32
        Rank of picks; -1 for others.
    """

    ids: NDArray[np.int64]
    points: NDArray[np.float32]
    cluster: NDArray[np.int32]
    density: NDArray[np.uint8]
    rank: NDArray[np.int32]


_ADAPTER: TypeAdapter[Report] = TypeAdapter(Report)


def folder(files: RunFiles) -> Path:
    """Return the folder of a run's report; created if missing."""
    path = files.directory / FOLDER
    path.mkdir(exist_ok=True)
    return path


def save(files: RunFiles, report: Report, points: MapPoints) -> None:
    """Store a report; it is complete once both files exist."""
    with atomic_write(folder(files) / MAP) as stream:
        np.savez(
            stream,
            ids=points.ids,
            points=points.points,
            cluster=points.cluster,
            density=points.density,
            rank=points.rank,
        )
    with atomic_write(folder(files) / TEXT) as stream:
        stream.write(_ADAPTER.dump_json(report, indent=1))


def load(files: RunFiles) -> Report | None:
    """Return the stored report; None if it is missing or from another version."""
    try:
        report = _ADAPTER.validate_json((files.directory / FOLDER / TEXT).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return report if report.layout == LAYOUT and (files.directory / FOLDER / MAP).is_file() else None


def load_map(files: RunFiles) -> MapPoints | None:
    """Return the stored map; None if it is missing or unreadable."""
    try:
        with (
            (files.directory / FOLDER / MAP).open("rb") as stream,
            np.load(stream, allow_pickle=False) as arrays,
        ):
            return MapPoints(**{name: arrays[name] for name in MapPoints.__dataclass_fields__})
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None

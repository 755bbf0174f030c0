"""Comparison of two runs over one pool: settings, picks and coverage, on the same rows if the encoder is the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import InputError, RunError
from usl_backend.evaluation.reach import DRAWS, EVALUATED, coverage_curve, covering_radius, nearest_distances
from usl_backend.report.record import DIMENSIONS
from usl_backend.runs import RunState
from usl_backend.selection.rows.preparation import fit_projection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from usl_backend.instances import Pool
    from usl_backend.runs import Run, RunStore

_SEED: Final = 0x5EED


@dataclass(frozen=True)
class Differing:
    """A setting that two runs have differently; None: unset."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Covered:
    """Coverage by the picks of two runs, in the rows of one of them.

    Attributes
    ----------
    rows
        Id of the run whose rows were compared.
    encoder
        Its encoder.
    tasks
        Tasks in the pools of both, of which those evaluated are evenly spaced.
    evaluated
        Tasks on which coverage was measured.
    a, b
        Share covered by the picks of each, 0 to 1; the radius is that of `evaluation.reach` for random tasks, as many
        as the larger number of picks.
    """

    rows: str
    encoder: str
    tasks: int
    evaluated: int
    a: float
    b: float


@dataclass(frozen=True)
class Comparison:
    """Two runs beside each other.

    Attributes
    ----------
    a, b
        Ids of the runs.
    settings
        Settings that differ, the encoder's resolved name among them.
    shared
        Ids of the picks of both, in the order of the first.
    only_a, only_b
        Picks of one alone, in its order.
    same_encoder
        True if both were embedded by the same encoder, so that their rows are the same.
    coverage
        In the rows of both runs, or, where encoders differ, in those of each.
    """

    a: str
    b: str
    settings: tuple[Differing, ...]
    shared: tuple[int, ...]
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    same_encoder: bool
    coverage: tuple[Covered, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Comparison:
        """Inverse of `to_json`."""
        return cls(
            **{
                **values,
                **{name: tuple(values[name]) for name in ("shared", "only_a", "only_b")},
                "settings": tuple(Differing(**one) for one in values["settings"]),
                "coverage": tuple(Covered(**one) for one in values["coverage"]),
            }
        )


def compare_runs(first: Run, second: Run, *, store: RunStore) -> Comparison:
    """Compare two completed runs over the same project or pool.

    Raises
    ------
    InputError
        The runs are over different projects or pools, or are one run.
    RunError
        A run is not done, or its files were removed.
    """
    check_comparable(first, second)
    ours, theirs = store.files(first.id), store.files(second.id)
    picks, others = (files.read_published().queue.of_role("pick") for files in (ours, theirs))
    known, mine = set(others), set(picks)
    keys = [_encoder(run)[0] for run in (first, second)]
    same = keys[0] == keys[1]
    pools = [files.read_pool()[0] for files in (ours, theirs)]
    spaces = [(first, pools[0])] if same else [(first, pools[0]), (second, pools[1])]
    common = np.intersect1d(pools[0].ids, pools[1].ids, assume_unique=True)
    return Comparison(
        first.id,
        second.id,
        tuple(_differing(first, second)),
        tuple(one for one in picks if one in known),
        tuple(one for one in picks if one not in known),
        tuple(one for one in others if one not in mine),
        same,
        tuple(_covered(run, pool, common, picks, others) for run, pool in spaces) if len(common) else (),
    )


def check_comparable(first: Run, second: Run) -> None:
    """Refuse runs that cannot be compared; raises the errors of `compare_runs`."""
    if first.id == second.id:
        raise InputError(f"run {first.id} is compared with itself; name another one")
    if (first.project, first.pool) != (second.project, second.pool):
        raise InputError(
            f"run {first.id} is over {first.subject} and run {second.id} over {second.subject}; name runs over one of "
            "them"
        )
    for run in (first, second):
        if run.state is not RunState.DONE:
            raise RunError(f"run {run.id} is {run.state.value}; it can be compared once it is done")


def _covered(
    run: Run, pool: Pool, common: NDArray[np.int64], picks: Sequence[int], others: Sequence[int]
) -> Covered:
    """Measure both selections on the common tasks, in the rows of one run."""
    projection = fit_projection(pool.embeddings, dimensions=DIMENSIONS)
    seen = common[:: -(-len(common) // EVALUATED)]
    rows = projection.apply(_rows(pool, seen))
    rng, size = np.random.default_rng(_SEED), min(max(len(picks), len(others)), len(common))
    apart = np.stack(
        [
            nearest_distances(rows, projection.apply(_rows(pool, rng.choice(common, size, replace=False))))
            for _ in range(DRAWS)
        ]
    )
    radius = covering_radius(apart)
    shares = []
    for chosen in (picks, others):
        there = np.intersect1d(np.asarray(chosen, dtype=np.int64), pool.ids)
        curve = (
            coverage_curve(rows, projection.apply(_rows(pool, there)), radius=radius) if len(there) else [0.0]
        )
        shares.append(float(curve[-1]))
    return Covered(run.id, _encoder(run)[1], len(common), len(seen), *shares)


def _rows(pool: Pool, ids: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
    """Return the rows of ids that are in the pool."""
    return np.asarray(pool.embeddings[np.searchsorted(pool.ids, ids)])


def _encoder(run: Run) -> tuple[str, str]:
    """Return key and name of a run's encoder."""
    if run.summary is None:
        return "", ""
    return run.summary.encoder.key, run.summary.encoder.name


def _differing(first: Run, second: Run) -> list[Differing]:
    """Return the settings that differ, the budget's and encoder's resolved values instead of an unset one."""
    one, other = (_resolved(run) for run in (first, second))
    names = [*one, *(name for name in other if name not in one)]
    return [
        Differing(name, one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)
    ]


def _resolved(run: Run) -> dict[str, Any]:
    """Return the settings of a run with what unset ones came to."""
    summary = run.summary
    settings = dict(run.settings)
    if summary is not None:
        settings["encoder"] = settings.get("encoder") or summary.encoder.name
        settings["budget"] = settings.get("budget") or str(summary.budget.resolved)
        settings |= {
            name: value
            for name, value in summary.method.parameters.items()
            if name not in ("method", "workers")
        }
    return settings

"""Options of USL, their defaults, and the paper's settings by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from usl_backend.selection.parameters import Parameters, option
from usl_backend.selection.repulsion import Kind

Preset = Literal["paper-cifar10", "paper-cifar100", "paper-imagenet-moco", "paper-imagenet-clip"]
NEAR_DUPLICATE = 0.01
"""Squared distance up to which rows of unit length count as near-duplicates by default."""


def _paper(**options: Any) -> dict[str, Any]:
    """Lay options over those that all settings of the official code share."""
    shared: dict[str, Any] = {
        "projection": 0,
        "normalize": False,
        "count_self": True,
        "smoothing": False,
        "centrality_weight": 0.0,
        "density_weight": 1.0,
        "scale_free": False,
        "start": "rows",
        "restarts": 1,
        "near_duplicates": -1.0,
        "exact": True,
    }
    return shared | options


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper-cifar10": _paper(
        neighbors=400, repulsion_weight=0.5, rounds=10, momentum=0.9, alpha=0.5,
        horizon="distance", horizon_distance=4.0, iterations=200,
    ),
    "paper-cifar100": _paper(
        neighbors=400, repulsion_weight=1.0, rounds=10, momentum=0.9, alpha=1.0,
        horizon="distance", horizon_distance=1.0, iterations=200,
    ),
    "paper-imagenet-moco": _paper(
        neighbors=20, repulsion_weight=1.5, rounds=2, momentum=0.0, alpha=0.5,
        horizon="nearest", horizon_picks=128, iterations=100,
    ),
    "paper-imagenet-clip": _paper(
        neighbors=20, repulsion_weight=0.05, rounds=2, momentum=0.0, alpha=1.0,
        horizon="nearest-other", horizon_picks=32, iterations=100, normalize=True,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class USLParameters(Parameters):
    """Options of `USL`; the defaults are one setting for every encoder and size."""

    name = "usl"
    presets = PRESETS
    preset: Preset | None = None
    projection: int = option(
        128,
        "principal components kept after centring when there are more dimensions; 0 = leave rows as they are",
        least=0,
    )
    normalize: bool = option(True, "bring rows to unit length")
    neighbors: int | Literal["auto"] = option(
        "auto",
        "nearest neighbors that density and smoothing look at; 'auto' = half the rows per pick, 2 to 20",
        least=1,
    )
    count_self: bool = option(False, "count a row among its own neighbors, as the paper's code does")
    smoothing: bool = option(
        True, "cluster rows averaged with their neighbors instead of the rows themselves"
    )
    centrality_weight: float = option(
        1.0, "weight of closeness to the cluster's mean in the utility", least=0
    )
    density_weight: float = option(0.0, "weight of density in the utility", least=0)
    repulsion_weight: float = option(0.0, "weight of repulsion from other clusters' picks (lambda)", least=0)
    scale_free: bool = option(True, "divide each term of the utility by its median before weighting")
    rounds: int = option(2, "rounds of picking; repulsion is updated in between", least=1)
    momentum: float = option(0.0, "share of the earlier repulsion kept at an update", least=0, most=1)
    alpha: float = option(0.5, "exponent of the squared distance in the repulsion", least=0)
    horizon: Kind = option(  # noqa: RUF009 - the name of the type hides that this is a field
        "nearest-other",
        "picks that repel: 'distance' = within horizon_distance, 'nearest' = the horizon_picks nearest, "
        "'nearest-other' = the same without the own cluster's",
    )
    horizon_distance: float = option(4.0, "squared distance from which a pick no longer repels", least=0)
    horizon_picks: int = option(64, "number of nearest picks that repel", least=1)
    start: Literal["plusplus", "rows"] = option(
        "plusplus",
        "start of k-means: 'plusplus' = the best of several greedy starts, 'rows' = random rows, as in the paper",
    )
    restarts: int = option(10, "k-means starts compared", least=1)
    iterations: int = option(20, "k-means steps on all rows", least=1)
    near_duplicates: float = option(
        NEAR_DUPLICATE,
        "squared distance up to which rows count as near-duplicates; 0 = equal rows only, -1 = never",
        least=-1,
    )
    exact: bool = option(False, "compare all pairs of rows, and of rows and picks, whatever their number")
    workers: int = option(1, "compute threads; no influence on the result", least=1)

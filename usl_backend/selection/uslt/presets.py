"""Options of USL-T, their defaults, and the paper's settings by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from usl_backend.selection.parameters import Parameters, option

Preset = Literal["paper-cifar10", "paper-cifar100", "paper-imagenet100", "paper-imagenet"]
Mode = Literal["heads", "finetune"]
"""The trained part: heads and a small projection on embeddings, or heads and the encoder on pictures."""
HeadStart = Literal["k-means", "instances", "random"]
HeadKind = Literal["normed", "linear"]
Balance = Literal["renormalised", "reweight", "none"]


def _paper(**options: Any) -> dict[str, Any]:
    """Lay options over those that all settings of the official code share."""
    shared: dict[str, Any] = {
        "projection": 0,
        "neighbors": 20,
        "smoothing": False,
        "near_duplicates": -1.0,
        "hidden": 0,
        "learning_rate": 1e-4,
        "weight_decay": 1e-4,
        "pick_by": "confidence",
        "local_clusters": 0,
    }
    return shared | options


def _paper_cifar(**options: Any) -> dict[str, Any]:
    """Backbone and linear heads, both trained; no re-seeding."""
    shared: dict[str, Any] = {
        "mode": "finetune", "head_kind": "linear", "head_start": "random", "epochs": 200, "batch": 1024,
        "threshold": 0.95, "temperature": 0.25, "adjustment": 5.0, "local_weight": 5.0, "balance": "reweight",
        "reseed_floor": 0.0,
    }  # fmt: skip
    return _paper(**(shared | options))


def _paper_imagenet(*, rows: int, floor: int, ceiling: int, clusters: int, **options: Any) -> dict[str, Any]:
    """Normed heads on a frozen backbone; the floor and ceiling, in rows of `rows`, become mean cluster sizes."""
    shared: dict[str, Any] = {
        "mode": "heads", "head_start": "instances", "batch": 2048, "weight_decay": 0.0, "threshold": 0.0,
        "temperature": 0.5, "adjustment": 2.5, "local_weight": 0.5, "clusters": clusters,
        "reseed_floor": floor * clusters / rows, "reseed_ceiling": ceiling * clusters / rows, "reseed_after": 2,
    }  # fmt: skip
    return _paper(**(shared | options))


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper-cifar10": _paper_cifar(mean_outside_mask=False, confidence="mean"),
    "paper-cifar100": _paper_cifar(),
    # The first steps that re-seed, 124 and 1,250, are both two epochs of batches of 2,048.
    "paper-imagenet100": _paper_imagenet(
        rows=126_689, clusters=400, floor=50, ceiling=500, epochs=100, balance="renormalised"
    ),
    "paper-imagenet": _paper_imagenet(
        rows=1_281_167, clusters=3000, floor=100, ceiling=1000, epochs=10, balance="none"
    ),
}


@dataclass(frozen=True, kw_only=True)
class USLTParameters(Parameters):
    """Options of `USLT`; the defaults are one setting for every encoder and size."""

    name = "usl-t"
    presets = PRESETS
    preset: Preset | None = None
    projection: int = option(
        128,
        "principal components kept after centring when there are more dimensions; 0 = leave rows as they are",
        least=0,
    )
    neighbors: int | Literal["auto"] = option(
        "auto",
        "nearest neighbors that density and smoothing look at; 'auto' = half the rows per pick, 2 to 20",
        least=1,
    )
    smoothing: bool = option(
        True, "cluster rows averaged with their neighbors instead of the rows themselves"
    )
    near_duplicates: float = option(
        0.01,
        "squared distance up to which rows count as near-duplicates; 0 = equal rows only, -1 = never",
        least=-1,
    )
    workers: int = option(1, "compute threads; no influence on the result", least=1)
    mode: Mode = option(  # noqa: RUF009 - the name of the type hides that this is a field
        "heads",
        "the trained part: 'heads' = cluster heads and a small projection on the embeddings (minutes on a CPU), "
        "'finetune' = the encoder too, on the pictures (made for a GPU)",
    )
    clusters: int = option(0, "clusters to learn; 0 = as many as picks", least=0)
    heads: int = option(3, "cluster heads that are trained side by side", least=1, most=16)
    head_kind: HeadKind = option(  # noqa: RUF009
        "normed", "'normed' = cosine times 40, without bias; 'linear' = plain linear layer with bias"
    )
    head_start: HeadStart = option(  # noqa: RUF009
        "k-means",
        "start of the heads: 'k-means' = at the means of clusters, 'instances' = at distinct random rows, "
        "'random' = at random weights",
    )
    hidden: int = option(
        128, "width of the residual layer that learns features in mode 'heads'; 0 = learn heads only", least=0
    )
    epochs: int = option(15, "passes of the training over the pool", least=0)
    batch: int = option(
        0,
        "rows per step of the optimiser; 0 = a tenth of the pool, at least 256",
        least=0,
    )
    micro_batch: int = option(
        64, "pictures per forward pass in mode 'finetune'; gradients add up to a batch", least=2
    )
    learning_rate: float = option(3e-4, "step size of Adam", least=0)
    weight_decay: float = option(1e-4, "weight decay of Adam", least=0)
    noise_weak: float = option(
        0.0, "length of the noise added to a unit-length row in the weak view (mode 'heads')", least=0
    )
    noise_strong: float = option(
        1.0, "length of the noise added to a unit-length row in the strong view (mode 'heads')", least=0
    )
    dropout: float = option(
        0.5, "share of the dimensions left out of the strong view (mode 'heads')", least=0, most=0.95
    )
    local_weight: float = option(5.0, "weight of the local loss: neighbors belong to one cluster", least=0)
    local_clusters: int = option(
        4, "fewest clusters with which the local loss counts; it makes two or three of them uneven", least=0
    )
    global_weight: float = option(
        1.0, "weight of the global loss: both views of a row belong to one cluster", least=0
    )
    temperature: float = option(
        0.5,
        "temperature of a neighbor's cluster probabilities: 1 = as they are, lower = sharper",
        least=0.01,
        most=1,
    )
    adjustment: float = option(
        2.5, "strength of the correction that keeps clusters from growing at the cost of others", least=0
    )
    threshold: float = option(
        0.0, "probability that the weak view must exceed to count in the global loss", least=0, most=1
    )
    balance: Balance = option(  # noqa: RUF009
        "renormalised",
        "weight of clusters in the global loss: 'reweight' = 1 / share of the batch, 'renormalised' = the same "
        "divided by the number of clusters seen, 'none' = equal rows",
    )
    mean_outside_mask: bool = option(
        True, "divide the global loss by all rows of the batch, not only by those above the threshold"
    )
    reseed_floor: float = option(
        0.2, "running size, in mean cluster sizes, below which a cluster starts anew; 0 = never", least=0
    )
    reseed_ceiling: float = option(
        1.6,
        "running size, in mean cluster sizes, of the largest cluster above which others start anew",
        least=0,
    )
    reseed_after: int = option(2, "epochs before a cluster may start anew", least=0)
    pick_by: Literal["center", "confidence"] = option(
        "center",
        "row picked in a cluster: nearest to its 'center', or of the largest softmax 'confidence'",
    )
    confidence: Literal["first", "mean"] = option(
        "first", "confidence of a row: the 'first' head's, or the 'mean' of all heads"
    )

    def local_weight_for(self, clusters: int) -> float:
        """Weight of the local loss with so many clusters: 0 below `local_clusters`."""
        return self.local_weight if clusters >= self.local_clusters else 0.0

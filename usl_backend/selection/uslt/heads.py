"""The small networks of USL-T: cluster heads, and the layer that learns features on embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from usl_backend.selection.uslt.presets import HeadKind

SCALE = 40.0
"""Factor of the cosine in `NormedLinear`; fixed, because a learned one invites collapse."""


class NormedLinear(nn.Module):
    """Cosine between a row and each cluster's direction, times 40; no bias.

    Source: `NormedLinear` of the official code.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute logits (b, outputs) of rows (b, inputs)."""
        return SCALE * functional.linear(functional.normalize(rows), functional.normalize(self.weight))


class ResidualProjection(nn.Module):
    """Features learned on top of embeddings: normalize(x + B relu(A x)), B zero at the start.

    Training therefore starts at the embeddings themselves and moves away only as far as the losses ask. A is
    (hidden, dimensions), drawn by `generator`.
    """

    def __init__(self, dimensions: int, hidden: int, *, generator: torch.Generator) -> None:
        super().__init__()
        inner = torch.empty(hidden, dimensions)
        nn.init.kaiming_normal_(inner, nonlinearity="relu", generator=generator)
        self.inner = nn.Parameter(inner)
        self.outer = nn.Parameter(torch.zeros(dimensions, hidden))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute unit-length features, the shape of the rows."""
        moved = functional.linear(torch.relu(functional.linear(rows, self.inner)), self.outer)
        return functional.normalize(rows + moved)


class ClusterModel(nn.Module):
    """Features (b, d) of a batch, and heads on them, each d to c."""

    def __init__(self, features: nn.Module, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.features = features
        self.heads = nn.ModuleList(heads)

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features (b, d) and logits (heads, b, c)."""
        rows = self.features(batch)
        return rows, torch.stack([head(rows) for head in self.heads])


def make_head(
    kind: HeadKind, *, inputs: int, outputs: int, start: Tensor | None, generator: torch.Generator
) -> nn.Module:
    """Make one cluster head, "normed" or "linear".

    It starts at the directions of `start` (outputs, inputs), or where `nn.Linear` does, drawn by `generator`. A linear
    head that starts at directions has them 40 long, as a normed one does, and no bias at first.
    """
    reach = inputs**-0.5
    head: NormedLinear | nn.Linear
    if kind == "normed":
        head = NormedLinear(inputs, outputs)
    else:
        head = nn.Linear(inputs, outputs)
        with torch.no_grad():
            head.bias.zero_() if start is not None else head.bias.uniform_(-reach, reach, generator=generator)
    with torch.no_grad():
        if start is None:
            head.weight.uniform_(-reach, reach, generator=generator)
        elif kind == "normed":
            head.weight.copy_(start)
        else:
            head.weight.copy_(SCALE * functional.normalize(start))
    return head


def log_odds(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Compute log(p / (1 - p)) of each row's largest probability p, without the rounding of probabilities near 1.

    Takes logits (b, c) and returns the odds (b,) float64, infinite for a single cluster, and the cluster (b,) of p;
    ties go to the lower.
    """
    wide = logits.double()
    top, clusters = wide.max(dim=1)
    others = wide.scatter(1, clusters[:, None], -torch.inf)
    return top - torch.logsumexp(others, dim=1), clusters

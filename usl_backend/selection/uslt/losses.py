"""The two losses of USL-T and the running shares they keep between batches.

All of it works on logits (b, c): b rows, c clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from usl_backend.selection.uslt.presets import Balance


def sharpen(probabilities: Tensor, *, temperature: float) -> Tensor:
    """Raise probabilities (b, c) to the power 1 / temperature and renormalise each row; 1 changes nothing."""
    sharp = probabilities ** (1.0 / temperature)
    return sharp / sharp.sum(dim=1, keepdim=True)


@dataclass
class LocalLoss:
    """A boundary must not cross dense regions: a row belongs to the cluster of its neighbor.

    KL( sharpen(softmax(neighbor - a log ema), T) || softmax(anchor) ), the mean over the batch. `ema` follows the
    mean of the neighbors' own probabilities with momentum 0.5; subtracting it keeps a large cluster from growing
    larger. The target carries no gradient.

    Attributes
    ----------
    adjustment, temperature
        a and T.
    ema : (c,) float
        Running share of each cluster, sums to 1; read before it is updated.

    Notes
    -----
    Source: `OursLossLocal` of the official code. Differs: a share is kept above the smallest normal number, where
    a cluster without rows would make the adjustment infinite.
    """

    adjustment: float
    temperature: float
    ema: Tensor
    momentum: float = 0.5

    def __call__(self, anchor: Tensor, neighbor: Tensor) -> Tensor:
        """Compute the loss () from logits (b, c) of anchors and of one neighbor each; update the running shares."""
        neighbor = neighbor.detach()
        target = sharpen(
            functional.softmax(neighbor - self.adjustment * self.ema.log(), dim=1),
            temperature=self.temperature,
        )
        seen = functional.softmax(neighbor, dim=1).mean(dim=0)
        share = self.momentum * self.ema + (1.0 - self.momentum) * seen
        share = share.clamp_min(torch.finfo(share.dtype).tiny)
        self.ema = share / share.sum()
        return functional.kl_div(functional.log_softmax(anchor, dim=1), target, reduction="batchmean")


@dataclass(frozen=True)
class GlobalLoss:
    """Each row close to its own centre: cross entropy of the strong view against the weak view's cluster.

    Only rows whose weak view is surer than `threshold` count. With `balance`, a row weighs
    n / (rows of its cluster), where n rows count; "renormalised" divides by the number of clusters among them.

    Attributes
    ----------
    threshold
        Probability, 0 to 1, that must be exceeded.
    balance
        Weights of the rows.
    mean_outside_mask
        Divide by all rows of the batch; otherwise by the sum of the weights that count.

    Notes
    -----
    Source: `OursLossGlobal` of the official code.
    """

    threshold: float
    balance: Balance
    mean_outside_mask: bool

    def __call__(self, weak: Tensor, strong: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss () from logits (b, c) of both views, and the number (c,) of each cluster's rows in it.

        The weak view carries no gradient; the loss is zero where no row counts.
        """
        surest, target = functional.softmax(weak.detach(), dim=1).max(dim=1)
        mask = surest > self.threshold
        chosen = target[mask]
        counts = torch.bincount(chosen, minlength=weak.shape[1])
        if not len(chosen):
            return strong.sum() * 0.0, counts
        each = functional.cross_entropy(strong[mask], chosen, reduction="none")
        weights = torch.ones_like(each)
        if self.balance != "none":
            weights = len(chosen) / counts[chosen].to(each.dtype)
        if self.balance == "renormalised":
            weights = weights / (counts > 0).sum()
        total = (weights * each).sum()
        return total / (len(strong) if self.mean_outside_mask else weights.sum()), counts

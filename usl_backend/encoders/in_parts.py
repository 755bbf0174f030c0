"""Networks whose first layers, those with the largest maps, take a few pictures of a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import cycle

import torch
from torch import Tensor, nn

FEW = 4
"""Pictures at a time: on a CPU their maps stay in its cache."""


class InParts(nn.Module):
    """A network in two halves; the bits of its rows are those of the whole.

    Parameters
    ----------
    fronts
        First half, once or in equal copies that take turns.
    rest
        Second half, which takes the whole batch.
    """

    def __init__(self, fronts: Sequence[nn.Module], rest: nn.Module) -> None:
        super().__init__()
        self.fronts, self.rest = nn.ModuleList(fronts), rest

    def forward(self, inputs: Tensor) -> Tensor:
        """Take a batch through the network."""
        parts = zip(cycle(self.fronts), torch.split(inputs, FEW), strict=False)
        rows: Tensor = self.rest(torch.cat([front(part) for front, part in parts]))
        return rows

    def copied(self, batch: int, wrap: Callable[[nn.Module], nn.Module]) -> InParts:
        """Give each part of a batch a wrapped first half of its own, as OpenVINO needs.

        It adds a bias and cuts off at 0 and 6 in a convolution only if no other layer shares its weights and biases.
        """
        return InParts([wrap(deepcopy(self.fronts[0])) for _ in range(-(-batch // FEW))], self.rest)

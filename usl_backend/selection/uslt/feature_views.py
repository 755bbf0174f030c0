"""Weak and strong views of embeddings: noise and dropped dimensions stand in for augmented pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FeatureViews:
    """Views of unit-length rows (n, d).

    Attributes
    ----------
    noise_weak, noise_strong
        Typical length of the Gaussian noise added.
    dropout
        Share of the dimensions set to zero in strong views, others for each row.
    """

    rows: Tensor
    noise_weak: float
    noise_strong: float
    dropout: float

    def strong(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Make rows (b, d) with strong noise and dropped dimensions."""
        part = self._noisy(self.rows[rows], self.noise_strong, generator)
        if self.dropout > 0.0:
            part = part * (torch.rand(part.shape, generator=generator) >= self.dropout)
        return part

    def weak(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Make rows (b, d) with weak noise."""
        return self._noisy(self.rows[rows], self.noise_weak, generator)

    @staticmethod
    def _noisy(part: Tensor, length: float, generator: torch.Generator) -> Tensor:
        """Add noise of about this length."""
        if length <= 0.0:
            return part
        spread = length / part.shape[1] ** 0.5
        noise: Tensor = spread * torch.randn(part.shape, generator=generator)
        return part + noise

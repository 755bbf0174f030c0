"""Training of USL-T on embeddings, and the protocol that trainers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import nn

from usl_backend.cpus import one_torch_thread
from usl_backend.selection.rows.threads import row_blocks
from usl_backend.selection.uslt.clusters import Answers
from usl_backend.selection.uslt.feature_views import FeatureViews
from usl_backend.selection.uslt.heads import ClusterModel, ResidualProjection, log_odds, make_head
from usl_backend.selection.uslt.training import History, Training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from usl_backend.selection.base import Checkpoint
    from usl_backend.selection.rows.preparation import Projection
    from usl_backend.selection.uslt.presets import USLTParameters


class Trainer(Protocol):
    """Trains a model on a pool and asks it for clusters."""

    def train(
        self,
        rows: NDArray[np.float32],
        places: NDArray[np.int64],
        near: NDArray[np.int64],
        *,
        projection: Projection,
        start: Sequence[NDArray[np.float32] | None],
        clusters: int,
        parameters: USLTParameters,
        seed: int,
        checkpoint: Checkpoint | None,
        report: Callable[[int, int], None],
    ) -> tuple[Answers, History]:
        """Train and ask.

        Parameters
        ----------
        rows : (n, d) float32
            Projected embeddings, unit length.
        places : (n,) int64
            Row of the pool that each of them is.
        near : (n, k + 1) int64
            Itself and its neighbors, as positions in `rows`.
        projection
            Projection that made the rows.
        start
            Per head, directions (clusters, d) or None for random weights.
        clusters
            Outputs of each head.
        parameters
            Options of USL-T.
        seed
            Seed of everything random.
        checkpoint, report
            As for `Training`.
        """
        ...


class EmbeddingTrainer:
    """Trains a small residual layer and heads on the embeddings themselves; on the CPU, one thread."""

    def train(
        self,
        rows: NDArray[np.float32],
        places: NDArray[np.int64],  # noqa: ARG002 - embeddings need no way back
        near: NDArray[np.int64],
        *,
        projection: Projection,  # noqa: ARG002 - the rows are projected already
        start: Sequence[NDArray[np.float32] | None],
        clusters: int,
        parameters: USLTParameters,
        seed: int,
        checkpoint: Checkpoint | None,
        report: Callable[[int, int], None],
    ) -> tuple[Answers, History]:
        """Train and ask; see `Trainer.train`."""
        generator = torch.Generator().manual_seed(seed)
        width = rows.shape[1]
        features: nn.Module = nn.Identity()
        if parameters.hidden:
            features = ResidualProjection(width, parameters.hidden, generator=generator)
        model = ClusterModel(features, make_heads(parameters, start, width, clusters, generator))
        points = torch.from_numpy(rows)
        views = FeatureViews(points, parameters.noise_weak, parameters.noise_strong, parameters.dropout)
        with one_torch_thread():
            history = Training(
                model, views, torch.from_numpy(near), parameters=parameters, generator=generator,
                checkpoint=checkpoint, report=report,
            ).run()  # fmt: skip
            return ask(model, lambda block: points[block], len(rows), clusters=clusters), history


def make_heads(
    parameters: USLTParameters,
    start: Sequence[NDArray[np.float32] | None],
    width: int,
    clusters: int,
    generator: torch.Generator,
) -> list[nn.Module]:
    """Make the heads at their starts."""
    return [
        make_head(
            parameters.head_kind,
            inputs=width,
            outputs=clusters,
            start=None if at is None else torch.from_numpy(at),
            generator=generator,
        )
        for at in start
    ]


def ask(
    model: ClusterModel, batch: Callable[[slice], Tensor], n: int, *, clusters: int, most: int = 8192
) -> Answers:
    """Ask the heads for the clusters of n rows without augmentation; `batch` gives a slice of at most `most` rows."""
    model.eval()
    heads = len(model.heads)
    labels = np.empty((heads, n), dtype=np.int32)
    odds = np.empty((heads, n))
    with torch.inference_mode():
        for block in row_blocks(n, size=max(1, min(most, 8_000_000 // clusters))):
            _, logits = model(batch(block))
            for head in range(heads):
                sure, cluster = log_odds(logits[head].float().cpu())
                odds[head, block], labels[head, block] = sure.numpy(), cluster.numpy()
    return Answers(labels, odds)

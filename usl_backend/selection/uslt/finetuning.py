"""Mode "finetune" of USL-T: the encoder itself is trained on pictures."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from usl_backend.cpus import one_torch_thread
from usl_backend.selection.uslt.heads import ClusterModel
from usl_backend.selection.uslt.trainers import ask, make_heads
from usl_backend.selection.uslt.training import History, Training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from usl_backend.selection.base import Checkpoint
    from usl_backend.selection.rows.preparation import Projection
    from usl_backend.selection.uslt.clusters import Answers
    from usl_backend.selection.uslt.presets import USLTParameters

logger = logging.getLogger(__name__)


class Augmentation(Protocol):
    """Makes weak and strong views of whole batches on the device where the pictures lie."""

    def weak(self, pictures: Tensor, *, seed: int) -> Tensor:
        """Turn (b, 3, s, s) uint8 into (b, 3, s, s) float32 in [0, 1] on the same device, each picture on its own."""
        ...

    def strong(self, pictures: Tensor, *, seed: int) -> Tensor:
        """Do the same, changed as far as a picture can be and still show the same thing."""
        ...


class ProjectedFeatures(nn.Module):
    """The encoder's features as a selection sees them: unit length, centred, projected, unit length again.

    Heads on them can start at clusters of the embeddings. Centre and axes are not trained.

    Parameters
    ----------
    backbone
        (b, 3, s, s) float in [0, 1] -> (b, d).
    projection
        Of the embeddings that the same encoder gave before training.
    """

    mean: Tensor
    axes: Tensor | None

    def __init__(self, backbone: nn.Module, projection: Projection) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.from_numpy(projection.mean).float())
        axes = None if projection.axes is None else torch.from_numpy(projection.axes).float()
        self.register_buffer("axes", axes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Compute features (b, p) of unit length."""
        # In float32 also where the encoder computes in halves: centring cancels most of the digits.
        rows = functional.normalize(self.backbone(pictures).float()) - self.mean
        return functional.normalize(rows if self.axes is None else rows @ self.axes)


@dataclass(frozen=True)
class PictureViews:
    """Augmented pictures of the pool, on the device that trains."""

    pictures: NDArray[np.uint8]
    places: NDArray[np.int64]
    augmentation: Augmentation
    device: torch.device

    def strong(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Make strong views (b, 3, s, s) in [0, 1]."""
        return self.augmentation.strong(self.read(rows.numpy()), seed=_seed(generator))

    def weak(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Make weak views (b, 3, s, s) in [0, 1]."""
        return self.augmentation.weak(self.read(rows.numpy()), seed=_seed(generator))

    def plain(self, block: slice) -> Tensor:
        """Return pictures without augmentation, (b, 3, s, s) in [0, 1]."""
        return self.read(np.arange(len(self.places))[block]).float().div_(255.0)

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """Read pictures (b, 3, s, s) uint8 of these rows from the map and put them on the device."""
        # A map is read in the order in which it lies on the disk.
        places, back = np.unique(self.places[rows], return_inverse=True)
        part = torch.from_numpy(np.ascontiguousarray(self.pictures[places])).to(self.device)
        return part.permute(0, 3, 1, 2)[torch.from_numpy(back).to(self.device)].contiguous()


class PictureTrainer:
    """Trains an encoder and cluster heads on pictures; on a GPU where there is one, in bfloat16 if it has that.

    Parameters
    ----------
    pictures : (n, s, s, 3) uint8
        One per row of the pool; may be memory-mapped.
    backbone
        (b, 3, s, s) float in [0, 1] -> (b, d), normalisation inside; trained in place.
    augmentation
        Makes the views.
    device
        "cuda" or "cpu"; by default the GPU where torch sees one.
    mixed
        Compute in bfloat16 where the device has it; False keeps float32.

    Notes
    -----
    Source: the paper's CIFAR training (backbone and heads, strong views for both losses, neighbors found once
    before training). Differs: heads start at clusters of the encoder's embeddings unless a preset says otherwise;
    a batch is gone through in parts of `micro_batch` pictures, and balance is counted within each part.
    """

    def __init__(
        self,
        pictures: NDArray[np.uint8],
        backbone: nn.Module,
        augmentation: Augmentation,
        *,
        device: str | None = None,
        mixed: bool = True,
    ) -> None:
        self.mixed = mixed
        self.pictures, self.backbone, self.augmentation = pictures, backbone, augmentation
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))

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
        """Train and ask; see `Trainer.train`."""
        generator = torch.Generator().manual_seed(seed)
        views = PictureViews(self.pictures, places, self.augmentation, self.device)
        features, width = self.backbone, rows.shape[1]
        if parameters.head_kind == "linear" and all(at is None for at in start):
            # The paper's CIFAR heads sit on the encoder's own features.
            width = self._width(views)
        else:
            features = ProjectedFeatures(self.backbone, projection)
        model = ClusterModel(features, make_heads(parameters, start, width, clusters, generator)).to(
            self.device
        )
        logger.info("training %d pictures on %s", len(places), self.device)
        with one_torch_thread():
            history = Training(
                model, views, torch.from_numpy(near), parameters=parameters, generator=generator,
                checkpoint=checkpoint, report=report, mixed=self.mixed,
            ).run()  # fmt: skip
            most = parameters.micro_batch
            return ask(model, views.plain, len(places), clusters=clusters, most=most), history

    def _width(self, views: PictureViews) -> int:
        """Count the columns of the encoder's features."""
        self.backbone.to(self.device).eval()
        with torch.inference_mode():
            return int(self.backbone(views.plain(slice(0, 1))).shape[1])


def _seed(generator: torch.Generator) -> int:
    """Draw the seed of one batch of views."""
    return int(torch.randint(2**62, (1,), generator=generator))

"""Weak and strong views of pictures by torchvision's transforms. Training on them is `selection/finetuning.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from usl_backend.encoders.vision import import_torchvision

if TYPE_CHECKING:
    from torch import Tensor


class PictureAugmentation:
    """A `selection.finetuning.Augmentation` made of torchvision.transforms.v2.

    Weak: mirrored or not, moved by up to an eighth of the side. Strong: a part of 20 to 100 % of the picture,
    mirrored or not, two random changes of color or shape (RandAugment), and a patch erased.

    Parameters
    ----------
    size
        Side of the pictures in pixels.

    Notes
    -----
    Source: the views of the paper's CIFAR training (RandAugment and Cutout after a random crop).
    """

    def __init__(self, size: int) -> None:
        import_torchvision()
        from torchvision.transforms import v2

        self._finish: Any = v2.ToDtype(torch.float32, scale=True)
        self._weak: Any = v2.Compose(
            [v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=size // 8, padding_mode="reflect")]
        )
        self._strong: Any = v2.Compose(
            [
                v2.RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandAugment(num_ops=2, magnitude=9),
                v2.RandomErasing(p=1.0, scale=(0.02, 0.15), value=127),
            ]
        )

    def weak(self, pictures: Tensor, *, seed: int) -> Tensor:
        """Weak views (b, 3, s, s) float in [0, 1] of pictures (b, 3, s, s) uint8."""
        return self._each(self._weak, pictures, seed)

    def strong(self, pictures: Tensor, *, seed: int) -> Tensor:
        """Strong views (b, 3, s, s) float in [0, 1] of pictures (b, 3, s, s) uint8."""
        return self._each(self._strong, pictures, seed)

    def _each(self, change: Any, pictures: Tensor, seed: int) -> Tensor:
        """Change each picture in its own way; torch's global generator is as it was afterwards."""
        # These transforms draw from the global generator, and one way for all pictures of a batch.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            views = torch.stack([change(picture) for picture in pictures])
        result: Tensor = self._finish(views)
        return result

"""Weak and strong augmentation of whole batches of pictures, for `selection/uslt/finetuning.py`.

All random numbers are drawn on the CPU, so that a seed gives the same views on every device; the pictures are
changed on their own device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from usl_backend.encoders.vision import import_torchvision

if TYPE_CHECKING:
    from torch import Tensor

Bend = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Affine map from a pixel (x, y, 1) of a view to the source pixel (x, y); the picture spans -1 to 1 on both axes."""
Recolor = Callable[["Tensor"], "Tensor"]
"""(n, 3, s, s) uint8 -> the same shape and dtype; each picture is changed independently of the others."""

CROP_AREA, CROP_RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
"""Crop of a strong view: share of the picture's area, and width / height before it is scaled to a square."""
PATCH_AREA, PATCH_RATIO, PATCH_VALUE = (0.02, 0.15), (1 / 3.3, 1 / 0.3), 127
"""Erased patch of a strong view: share of its area, width / height, and fill value."""
ROUNDS, MAGNITUDE = 2, 9 / 30
"""Parameters of RandAugment: changes per picture, and their magnitude (9 of 30)."""
TRIES = 10
"""Boxes drawn per picture; the whole picture is used if none fits."""
CACHED = 2**18
"""Pixels that a CPU samples at a time, so that their floats stay in its cache."""


class PictureAugmentation:
    """A `selection.uslt.finetuning.Augmentation` that draws changes for each picture of a batch independently.

    Weak: random mirroring and a shift by up to an eighth of the side. Strong: a random crop of 20 to 100 % of the
    picture, random mirroring, two random changes of color or shape (RandAugment), and an erased patch.

    Parameters
    ----------
    size
        Side of the pictures in pixels.

    Notes
    -----
    Source: the views of the paper's CIFAR training (RandAugment and Cutout after a random crop); RandAugment is
    that of Cubuk et al., 2020, with torchvision's changes and magnitudes. Differs: the patch is a rectangle of 2 to
    15 % of the picture, not a square of one size.

    A seed gives the same views on a CPU and on a GPU, up to rounding.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        bends, recolors = bend_kinds(size), recolor_kinds()
        self.bends = torch.tensor([bend for kind in bends for bend in kind])
        self.recolors = [recolor for kind in recolors for recolor in kind]
        # All kinds of change are equally likely, and so are the two directions of kinds that have two.
        choices: list[int] = []
        number = 0
        for directions in map(len, (*bends, *recolors)):
            choices += [number, number + directions - 1]
            number += directions
        self._choices = torch.tensor(choices)

    def weak(self, pictures: Tensor, *, seed: int) -> Tensor:
        """Make weak views (b, 3, s, s) float in [0, 1] of pictures (b, 3, s, s) uint8, on their device."""
        generator = torch.Generator().manual_seed(seed)
        most = self.size // 8
        moves = torch.randint(-most, most + 1, (2, len(pictures)), generator=generator)
        drawn = torch.cat([moves, _coins(len(pictures), generator)]).to(pictures.device)
        return move(pictures, drawn[:2], drawn[2].bool()).float().div_(255)

    def strong(self, pictures: Tensor, *, seed: int) -> Tensor:
        """Make strong views (b, 3, s, s) float in [0, 1] of pictures (b, 3, s, s) uint8, on their device."""
        generator = torch.Generator().manual_seed(seed)
        count = len(pictures)
        boxes = draw_boxes(count, self.size, CROP_AREA, CROP_RATIO, generator)
        patches = draw_boxes(count, self.size, PATCH_AREA, PATCH_RATIO, generator)
        # One tensor, because every copy to a GPU waits until the GPU is idle.
        drawn = torch.cat([boxes, patches, _coins(count, generator)]).to(pictures.device)
        # Training calls this under autocast: sharpness in half precision would be coarse.
        with torch.autocast(pictures.device.type, enabled=False):
            views = crop(pictures, drawn[:4], drawn[8].bool())
            for _ in range(ROUNDS):
                chosen = torch.randint(len(self._choices), (count,), generator=generator)
                views = self.change(views, self._choices[chosen])
        return erase(views, drawn[4:8]).float().div_(255)

    def change(self, pictures: Tensor, numbers: Tensor) -> Tensor:
        """Apply one change of RandAugment to each of pictures (b, 3, s, s) uint8.

        Parameters
        ----------
        numbers : (b,) int64, on the CPU
            Indices of the changes in `bends` followed by `recolors`.
        """
        # Group the pictures by change; all bends are computed together.
        numbers, order = numbers.sort(stable=True)
        groups = (numbers - len(self.bends) + 1).clamp_min(0)
        sizes = groups.bincount(minlength=1 + len(self.recolors)).tolist()
        order, back = torch.stack([order, order.argsort()]).to(pictures.device)
        bends = self.bends[numbers[: sizes[0]]].to(pictures.device)
        changes: list[Recolor] = [partial(bend, bends=bends), *self.recolors]
        parts = zip(changes, torch.split(pictures.index_select(0, order), sizes), strict=True)
        return torch.cat([change(part) for change, part in parts if len(part)]).index_select(0, back)


def bend_kinds(size: int) -> list[tuple[Bend, ...]]:
    """Return the geometric changes of RandAugment at `MAGNITUDE`, in one or both directions.

    Parameters
    ----------
    size
        Side of the pictures in pixels; shifts are whole pixels.
    """
    x, y = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)

    def bends(sign: float) -> list[Bend]:
        # Shearing keeps the upper left corner in place.
        shear = sign * 0.3 * MAGNITUDE
        far = sign * 2 * int(150 / 331 * size * MAGNITUDE) / size
        angle = sign * math.radians(30 * MAGNITUDE)
        cos, sin = math.cos(angle), math.sin(angle)
        return [
            ((1.0, shear, shear), y),
            (x, (shear, 1.0, shear)),
            ((1.0, 0.0, far), y),
            (x, (0.0, 1.0, far)),
            ((cos, -sin, 0.0), (sin, cos, 0.0)),
        ]

    return [((x, y),), *zip(bends(1.0), bends(-1.0), strict=True)]


def recolor_kinds() -> list[tuple[Recolor, ...]]:
    """Return the color changes of RandAugment at `MAGNITUDE`, in one or both directions."""
    import_torchvision()
    from torchvision.transforms.v2 import functional as vision

    factors = (1 + 0.9 * MAGNITUDE, 1 - 0.9 * MAGNITUDE)
    return [
        tuple(partial(vision.adjust_brightness, brightness_factor=factor) for factor in factors),
        tuple(partial(vision.adjust_saturation, saturation_factor=factor) for factor in factors),
        tuple(partial(vision.adjust_contrast, contrast_factor=factor) for factor in factors),
        tuple(partial(vision.adjust_sharpness, sharpness_factor=factor) for factor in factors),
        (partial(vision.posterize, bits=8 - round(4 * MAGNITUDE)),),
        (partial(vision.solarize, threshold=255 * (1 - MAGNITUDE)),),
        (vision.autocontrast,),
        (vision.equalize,),
    ]


def draw_boxes(
    count: int, side: int, area: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw boxes (4, count) int64 within squares: top, left, height and width in pixels.

    Parameters
    ----------
    count, side
        Number of squares, and their side in pixels.
    area
        Smallest and largest share of the square's area; uniform.
    ratio
        Smallest and largest width / height; uniform in its logarithm.
    """
    share = torch.empty(count, TRIES).uniform_(*area, generator=generator)
    stretch = torch.empty(count, TRIES).uniform_(*map(math.log, ratio), generator=generator).exp()
    tried = (torch.stack([share / stretch, share * stretch]).sqrt() * side).round().long()
    tried = torch.cat([tried, torch.full((2, count, 1), side)], dim=2)
    # Take the first box that fits.
    sides = tried[:, torch.arange(count), (tried <= side).all(dim=0).int().argmax(dim=1)]
    corners = torch.rand(2, count, generator=generator, dtype=torch.float64) * (side + 1 - sides)
    return torch.cat([corners.long(), sides])


def move(pictures: Tensor, moves: Tensor, mirrored: Tensor) -> Tensor:
    """Shift pictures (b, 3, s, s) with reflection at the borders, then mirror some of them from left to right.

    Parameters
    ----------
    moves : (2, b) int64
        Pixels down and to the right, less than s.
    mirrored : (b,) bool
    """
    count, channels, side, _ = pictures.shape
    at = torch.arange(side, device=pictures.device) - moves[..., None]
    down, right = side - 1 - (side - 1 - at.abs()).abs()
    right = torch.where(mirrored[:, None], right.flip(1), right)
    # Rows first, because copying whole rows is fast.
    planes = torch.arange(count * channels, device=pictures.device).view(count, channels, 1)
    rows = pictures.reshape(-1, side).index_select(0, (planes * side + down[:, None]).flatten())
    return rows.view(pictures.shape).gather(3, right[:, None, None].expand(pictures.shape))


def crop(pictures: Tensor, boxes: Tensor, mirrored: Tensor) -> Tensor:
    """Scale crops of pictures (b, 3, s, s) uint8 to the side s, bilinear, and mirror some from left to right.

    Parameters
    ----------
    boxes : (4, b) int64
        Top, left, height and width in pixels.
    mirrored : (b,) bool
    """
    side = pictures.shape[-1]
    corners, sides = boxes[:2, :, None], boxes[2:, :, None]
    at = (torch.arange(side, device=pictures.device) + 0.5) * (sides / side) - 0.5
    # Clamp, so that pixels outside the crop do not bleed into its border.
    down, right = (corners + at.clamp_min(0).minimum(sides - 1)) * (2 / side) + (1 / side - 1)
    right = torch.where(mirrored[:, None], right.flip(1), right)
    shape = (len(pictures), side, side)
    return _sample(pictures, right[:, None].expand(shape), down[:, :, None].expand(shape), "bilinear")


def bend(pictures: Tensor, bends: Tensor) -> Tensor:
    """Transform pictures (b, 3, s, s) uint8, each by its own `Bend` of (b, 2, 3); uncovered pixels are black."""
    side = pictures.shape[-1]
    at = (2 * torch.arange(side, device=pictures.device) + 1) / side - 1
    across, along, by = bends.permute(2, 1, 0)[..., None, None]
    right, down = across * at + along * at[:, None] + by
    return _sample(pictures, right, down, "nearest")


def erase(pictures: Tensor, boxes: Tensor) -> Tensor:
    """Fill a box of each picture (b, 3, s, s) with `PATCH_VALUE`; boxes (4, b) as from `draw_boxes`."""
    corners, sides = boxes[:2, :, None], boxes[2:, :, None]
    at = torch.arange(pictures.shape[-1], device=pictures.device)
    down, right = (corners <= at) & (at < corners + sides)
    return pictures.masked_fill((down[:, :, None] & right[:, None])[:, None], PATCH_VALUE)


def _sample(pictures: Tensor, right: Tensor, down: Tensor, mode: str) -> Tensor:
    """Sample pictures (b, 3, s, s) uint8 at x and y coordinates (b, s, s) in [-1, 1]."""
    few = len(pictures)
    if pictures.device.type == "cpu":
        few = max(1, CACHED // pictures[0, 0].numel())
    views = []
    for part, *place in zip(*(torch.split(one, few) for one in (pictures, right, down)), strict=True):
        grid = torch.stack(place, dim=3)
        sampled = functional.grid_sample(part.float(), grid, mode=mode, align_corners=False)
        views.append(sampled.round_().to(torch.uint8))
    return torch.cat(views)


def _coins(count: int, generator: torch.Generator) -> Tensor:
    """Draw (1, count) of 0 and 1."""
    return torch.randint(2, (1, count), generator=generator)

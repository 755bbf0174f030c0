"""Weak and strong views of whole batches of pictures. Training on them is `selection/uslt/finetuning.py`.

Everything random is drawn on the CPU, so that a seed means the same on every device; what it does to the pictures is
computed where they lie.
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
"""Where a pixel of a view comes from: (x, y, 1) -> (x, y), the picture reaching from -1 to 1 both ways."""
Recolor = Callable[["Tensor"], "Tensor"]
"""(n, 3, s, s) uint8 -> the same, each picture as if it were alone."""

CROP_AREA, CROP_RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
"""Share of the picture that a strong view shows, and width by height of that part before it is square again."""
PATCH_AREA, PATCH_RATIO, PATCH_VALUE = (0.02, 0.15), (1 / 3.3, 1 / 0.3), 127
"""Share of a strong view that is erased, width by height of that part, and what stands there instead."""
ROUNDS, MAGNITUDE = 2, 9 / 30
"""Of RandAugment: changes per picture, and how strong they are (9, where 30 is the strongest)."""
TRIES = 10
"""Boxes drawn per picture; where none fits, the whole picture is taken."""
CACHED = 2**18
"""Pixels that a CPU samples at a time: their floats must not fall out of its cache."""


class PictureAugmentation:
    """A `selection.finetuning.Augmentation`: each picture of a batch is changed in its own way.

    Weak: mirrored or not, moved by up to an eighth of the side. Strong: a part of 20 to 100 % of the picture,
    mirrored or not, two random changes of color or shape (RandAugment), and a patch erased.

    Parameters
    ----------
    size
        Side of the pictures in pixels.

    Notes
    -----
    Source: the views of the paper's CIFAR training (RandAugment and Cutout after a random crop); RandAugment is
    that of Cubuk et al., 2020, with torchvision's changes and magnitudes. Differs: the patch is a rectangle of 2 to
    15 % of the picture, not a square of one size.

    One seed gives the same views on a CPU and on a GPU, but for rounding.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        bends, recolors = bend_kinds(size), recolor_kinds()
        self.bends = torch.tensor([bend for kind in bends for bend in kind])
        self.recolors = [recolor for kind in recolors for recolor in kind]
        # Every kind is as likely as any other, and so are both directions of one that has two.
        lots: list[int] = []
        number = 0
        for directions in map(len, (*bends, *recolors)):
            lots += [number, number + directions - 1]
            number += directions
        self._lots = torch.tensor(lots)

    def weak(self, pictures: Tensor, *, seed: int) -> Tensor:
        """Weak views (b, 3, s, s) float in [0, 1] of pictures (b, 3, s, s) uint8, on their device."""
        generator = torch.Generator().manual_seed(seed)
        most = self.size // 8
        moves = torch.randint(-most, most + 1, (2, len(pictures)), generator=generator)
        drawn = torch.cat([moves, _coins(len(pictures), generator)]).to(pictures.device)
        return move(pictures, drawn[:2], drawn[2].bool()).float().div_(255)

    def strong(self, pictures: Tensor, *, seed: int) -> Tensor:
        """Strong views (b, 3, s, s) float in [0, 1] of pictures (b, 3, s, s) uint8, on their device."""
        generator = torch.Generator().manual_seed(seed)
        count = len(pictures)
        boxes = draw_boxes(count, self.size, CROP_AREA, CROP_RATIO, generator)
        patches = draw_boxes(count, self.size, PATCH_AREA, PATCH_RATIO, generator)
        # In one piece, because whatever goes to a GPU waits until that is idle.
        drawn = torch.cat([boxes, patches, _coins(count, generator)]).to(pictures.device)
        # Training asks for views where convolutions run in halves: sharpness would come out coarse.
        with torch.autocast(pictures.device.type, enabled=False):
            views = crop(pictures, drawn[:4], drawn[8].bool())
            for _ in range(ROUNDS):
                lots = torch.randint(len(self._lots), (count,), generator=generator)
                views = self.change(views, self._lots[lots])
        return erase(views, drawn[4:8]).float().div_(255)

    def change(self, pictures: Tensor, numbers: Tensor) -> Tensor:
        """Change pictures (b, 3, s, s) uint8 by RandAugment, each once.

        Parameters
        ----------
        numbers : (b,) int64, on the CPU
            Changes, counted through `bends` and on through `recolors`.
        """
        # Pictures of the same change lie side by side meanwhile; all bends are one change.
        numbers, order = numbers.sort(stable=True)
        groups = (numbers - len(self.bends) + 1).clamp_min(0)
        sizes = groups.bincount(minlength=1 + len(self.recolors)).tolist()
        order, back = torch.stack([order, order.argsort()]).to(pictures.device)
        bends = self.bends[numbers[: sizes[0]]].to(pictures.device)
        changes: list[Recolor] = [partial(bend, bends=bends), *self.recolors]
        parts = zip(changes, torch.split(pictures.index_select(0, order), sizes), strict=True)
        return torch.cat([change(part) for change, part in parts if len(part)]).index_select(0, back)


def bend_kinds(size: int) -> list[tuple[Bend, ...]]:
    """Those changes of RandAugment that move pixels, at `MAGNITUDE`: one way, or there and back.

    Parameters
    ----------
    size
        Side of the pictures in pixels: they move by whole ones.
    """
    x, y = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)

    def bends(way: float) -> list[Bend]:
        # A sheared picture keeps its upper left corner.
        shear = way * 0.3 * MAGNITUDE
        far = way * 2 * int(150 / 331 * size * MAGNITUDE) / size
        angle = way * math.radians(30 * MAGNITUDE)
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
    """Those changes of RandAugment that leave pixels where they are, at `MAGNITUDE`: one way, or more and less."""
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
    """Boxes (4, count) int64 within squares: top, left, height and width in pixels.

    Parameters
    ----------
    count, side
        Squares, and their side in pixels.
    area
        Least and largest share of the square; uniform.
    ratio
        Least and largest width by height; uniform in its logarithm.
    """
    share = torch.empty(count, TRIES).uniform_(*area, generator=generator)
    stretch = torch.empty(count, TRIES).uniform_(*map(math.log, ratio), generator=generator).exp()
    tried = (torch.stack([share / stretch, share * stretch]).sqrt() * side).round().long()
    tried = torch.cat([tried, torch.full((2, count, 1), side)], dim=2)
    # The first one that fits.
    sides = tried[:, torch.arange(count), (tried <= side).all(dim=0).int().argmax(dim=1)]
    corners = torch.rand(2, count, generator=generator, dtype=torch.float64) * (side + 1 - sides)
    return torch.cat([corners.long(), sides])


def move(pictures: Tensor, moves: Tensor, mirrored: Tensor) -> Tensor:
    """Move pictures (b, 3, s, s) over their own reflections, and mirror some of them from left to right afterwards.

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
    # Rows come first, because whole ones are copied fast.
    planes = torch.arange(count * channels, device=pictures.device).view(count, channels, 1)
    rows = pictures.reshape(-1, side).index_select(0, (planes * side + down[:, None]).flatten())
    return rows.view(pictures.shape).gather(3, right[:, None, None].expand(pictures.shape))


def crop(pictures: Tensor, boxes: Tensor, mirrored: Tensor) -> Tensor:
    """Enlarge parts of pictures (b, 3, s, s) uint8 to the side s, bilinear, and mirror some from left to right.

    Parameters
    ----------
    boxes : (4, b) int64
        Top, left, height and width in pixels.
    mirrored : (b,) bool
    """
    side = pictures.shape[-1]
    corners, sides = boxes[:2, :, None], boxes[2:, :, None]
    at = (torch.arange(side, device=pictures.device) + 0.5) * (sides / side) - 0.5
    # Nothing from beside the part mixes into its margin.
    down, right = (corners + at.clamp_min(0).minimum(sides - 1)) * (2 / side) + (1 / side - 1)
    right = torch.where(mirrored[:, None], right.flip(1), right)
    shape = (len(pictures), side, side)
    return _sample(pictures, right[:, None].expand(shape), down[:, :, None].expand(shape), "bilinear")


def bend(pictures: Tensor, bends: Tensor) -> Tensor:
    """Bend pictures (b, 3, s, s) uint8, each by its own `Bend` of (b, 2, 3); black where there was nothing."""
    side = pictures.shape[-1]
    at = (2 * torch.arange(side, device=pictures.device) + 1) / side - 1
    across, along, by = bends.permute(2, 1, 0)[..., None, None]
    right, down = across * at + along * at[:, None] + by
    return _sample(pictures, right, down, "nearest")


def erase(pictures: Tensor, boxes: Tensor) -> Tensor:
    """Put `PATCH_VALUE` into a box of each picture (b, 3, s, s); boxes (4, b) as those of `draw_boxes`."""
    corners, sides = boxes[:2, :, None], boxes[2:, :, None]
    at = torch.arange(pictures.shape[-1], device=pictures.device)
    down, right = (corners <= at) & (at < corners + sides)
    return pictures.masked_fill((down[:, :, None] & right[:, None])[:, None], PATCH_VALUE)


def _sample(pictures: Tensor, right: Tensor, down: Tensor, mode: str) -> Tensor:
    """Pictures (b, 3, s, s) uint8 as they are at these places, (b, s, s) float each, from -1 to 1."""
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
    """(1, count) of 0 and 1."""
    return torch.randint(2, (1, count), generator=generator)

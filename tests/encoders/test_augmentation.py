"""Views of whole batches against torchvision's transforms of one picture at a time."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from usl_backend.encoders.augmentation import (
    CROP_AREA,
    CROP_RATIO,
    PATCH_AREA,
    PATCH_RATIO,
    PATCH_VALUE,
    PictureAugmentation,
    crop,
    draw_boxes,
    erase,
    move,
)
from usl_backend.encoders.vision import import_torchvision

import_torchvision()
from torchvision.transforms import v2  # noqa: E402

SIZE = 32


def noise(count: int, size: int = SIZE) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def content(picture: Tensor) -> bytes:
    return picture.contiguous().numpy().tobytes()


@pytest.mark.parametrize("view", ["weak", "strong"])
def test_augmentation__each_picture_its_own_way_by_the_seed_alone(view: str) -> None:
    pictures = noise(1).repeat(6, 1, 1, 1)
    change = getattr(PictureAugmentation(SIZE), view)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    views = change(pictures, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert views.shape == (6, 3, SIZE, SIZE)
    assert views.dtype == torch.float32
    assert 0 <= views.min() < views.max() <= 1
    assert len({content(picture) for picture in views}) == 6
    torch.manual_seed(6)
    assert torch.equal(change(pictures, seed=1), views)
    assert not torch.equal(change(pictures, seed=2), views)
    assert torch.equal(pictures, noise(1).repeat(6, 1, 1, 1))


def test_augmentation__strong_changes_more_than_weak() -> None:
    ramp = torch.linspace(0, 255, SIZE).to(torch.uint8)
    pictures = ramp.expand(3, SIZE, SIZE).repeat(20, 1, 1, 1)
    plain = pictures.float() / 255
    augmentation = PictureAugmentation(SIZE)
    # against mirroring, which both do: the distance to the nearer of both sides
    apart = [
        torch.minimum((views - plain).abs().mean((1, 2, 3)), (views - plain.flip(3)).abs().mean((1, 2, 3)))
        for views in (augmentation.weak(pictures, seed=0), augmentation.strong(pictures, seed=0))
    ]
    assert apart[0].mean() < apart[1].mean()


def test_augmentation__the_same_where_training_computes_in_halves() -> None:
    augmentation, pictures = PictureAugmentation(SIZE), noise(40)
    expected = augmentation.strong(pictures, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augmentation.strong(pictures, seed=0), expected)


def test_weak__every_shift_of_the_reflected_picture_mirrored_or_not_and_nothing_else() -> None:
    size, reach = 16, 2
    picture = noise(1, size)
    padded = v2.functional.pad(picture[0], [reach] * 4, padding_mode="reflect")
    shifted = {
        content(part.flip(2) if mirrored else part)
        for top in range(2 * reach + 1)
        for left in range(2 * reach + 1)
        for part in [padded[:, top : top + size, left : left + size]]
        for mirrored in (False, True)
    }
    views = PictureAugmentation(size).weak(picture.expand(1000, -1, -1, -1), seed=0)
    assert {content((view * 255).round().to(torch.uint8)) for view in views} == shifted


def test_move__each_picture_by_its_own_way_and_mirrored_afterwards() -> None:
    pictures = noise(3)
    moved = move(pictures, torch.tensor([[0, 3, 0], [0, 0, -2]]), torch.tensor([True, False, True]))
    assert torch.equal(moved[0], pictures[0].flip(2))
    assert torch.equal(moved[1, :, 3:], pictures[1, :, :-3])
    assert torch.equal(moved[1, :, :3], pictures[1, :, 1:4].flip(1))
    assert torch.equal(moved[2].flip(2)[:, :, :-2], pictures[2, :, :, 2:])


@pytest.mark.parametrize("size", [32, 45])
def test_crop__is_that_of_torchvision(size: int) -> None:
    pictures = noise(40, size)
    boxes = draw_boxes(len(pictures), size, CROP_AREA, CROP_RATIO, torch.Generator().manual_seed(0))
    mirrored = torch.arange(len(pictures)) % 3 == 0
    views = crop(pictures, boxes, mirrored)
    assert views.dtype == torch.uint8
    for picture, box, mirror, view in zip(pictures, boxes.T.tolist(), mirrored, views, strict=True):
        expected = v2.functional.resized_crop(picture, *box, [size, size], antialias=True)
        assert ((expected.flip(2) if mirror else expected).int() - view.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("area", "ratio", "transform"),
    [
        (CROP_AREA, CROP_RATIO, v2.RandomResizedCrop(64, scale=(0.2, 1.0))),
        (PATCH_AREA, PATCH_RATIO, v2.RandomErasing(scale=(0.02, 0.15))),
    ],
)
def test_draw_boxes__as_often_of_each_size_and_place_as_torchvision_draws_them(
    area: tuple[float, float], ratio: tuple[float, float], transform: v2.Transform
) -> None:
    boxes = draw_boxes(4000, 64, area, ratio, torch.Generator().manual_seed(0))
    top, left, height, width = boxes
    assert boxes.min() >= 0
    assert (top + height).max() <= 64
    assert (left + width).max() <= 64
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [transform.make_params([torch.zeros(3, 64, 64)]) for _ in range(4000)]
    # RandomErasing names them i, j, h and w.
    names = ("top", "left", "height", "width") if "top" in drawn[0] else ("i", "j", "h", "w")
    theirs = torch.tensor([[one[name] for one in drawn] for name in names])
    for mine, their in (
        *zip(boxes, theirs, strict=True),
        (height * width, theirs[2] * theirs[3]),
        (height / width, theirs[2] / theirs[3]),
    ):
        assert ks_2samp(mine.numpy(), their.numpy()).statistic < 0.05


def test_change__is_randaugment_of_torchvision() -> None:
    """Every outcome of one round, and no other."""
    # Not as bright or dark as can be, so that autocontrast has something to do, and partly above 178 for solarize.
    picture = noise(1)[0] // 2 + 60
    theirs = v2.RandAugment(num_ops=1, magnitude=9)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outcomes = {content(one): one for one in (theirs(picture) for _ in range(1500))}
    augmentation = PictureAugmentation(SIZE)
    count = len(augmentation.bends) + len(augmentation.recolors)
    assert len(outcomes) == count
    changed = augmentation.change(picture.expand(count, -1, -1, -1), torch.arange(count))
    expected = torch.stack(list(outcomes.values()))
    # Their magnitudes are rounded to float32: some value in a thousand is one level off.
    same = (changed[:, None].float() - expected[None].float()).abs().mean((2, 3, 4)) < 0.01
    assert (same.sum(0) == 1).all()
    assert (same.sum(1) == 1).all()


def test_change__of_a_batch_is_that_of_each_picture_alone() -> None:
    augmentation, pictures = PictureAugmentation(SIZE), noise(70)
    numbers = torch.randint(23, (70,), generator=torch.Generator().manual_seed(0))
    changed = augmentation.change(pictures, numbers)
    for place in range(len(pictures)):
        one = slice(place, place + 1)
        assert torch.equal(changed[one], augmentation.change(pictures[one], numbers[one]))


def test_strong__two_of_fourteen_changes_each_as_likely_as_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Tensor] = []

    def watch(self: PictureAugmentation, pictures: Tensor, numbers: Tensor) -> Tensor:
        drawn.append(numbers)
        return pictures

    monkeypatch.setattr(PictureAugmentation, "change", watch)
    PictureAugmentation(8).strong(noise(1, 8).expand(28_000, -1, -1, -1), seed=0)
    assert len(drawn) == 2
    assert not torch.equal(drawn[0], drawn[1])
    # still, five ways to bend and four to recolor in two directions each, four more recolorings
    likely = torch.tensor([2] + [1] * 10 + [1] * 8 + [2] * 4) / 28
    for numbers in drawn:
        shares = numbers.bincount(minlength=23) / len(numbers)
        np.testing.assert_allclose(shares, likely, rtol=0.15)


def test_strong__a_patch_of_2_to_15_percent_is_erased_from_each(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 100
    unchanged: Callable[..., Tensor] = lambda self, pictures, numbers: pictures  # noqa: E731
    monkeypatch.setattr(PictureAugmentation, "change", unchanged)
    pictures = torch.full((200, 3, size, size), 9, dtype=torch.uint8)
    views = PictureAugmentation(size).strong(pictures, seed=0)
    erased = views != 9 / 255
    assert torch.equal(erased, (views - PATCH_VALUE / 255).abs() < 1e-6)
    assert torch.equal(erased, erased[:, :1].expand_as(erased))
    high, wide = erased[:, 0].any(2).sum(1), erased[:, 0].any(1).sum(1)
    area = erased[:, 0].sum((1, 2))
    assert torch.equal(area, high * wide)
    # half a pixel either way of each side
    slack = (high + wide) / 2
    assert (area + slack >= 0.02 * size**2).all()
    assert (area - slack <= 0.15 * size**2).all()
    assert area.min() < 0.03 * size**2
    assert area.max() > 0.13 * size**2


def test_erase__the_box_alone() -> None:
    pictures = torch.zeros(2, 3, 6, 6, dtype=torch.uint8)
    erased = erase(pictures, torch.tensor([[1, 0], [2, 4], [3, 6], [4, 1]]))
    expected = pictures.clone()
    expected[0, :, 1:4, 2:6] = PATCH_VALUE
    expected[1, :, 0:6, 4:5] = PATCH_VALUE
    assert torch.equal(erased, expected)
    assert not pictures.any()

"""FixMatch itself: that it learns, that augmentation keeps what it must, and that unlabeled rows are used."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

SCRIPT = Path(__file__).parent.parent.parent / "examples" / "fixmatch" / "fixmatch.py"


@pytest.fixture(scope="module")
def fixmatch() -> Any:
    spec = importlib.util.spec_from_file_location("fixmatch_example", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bars(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey pictures, 16 x 16: upright bars, lying bars, blobs; all with noise and moved."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    pictures = torch.zeros(n, 1, 16, 16)
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        at = int(torch.randint(3, 11, (1,), generator=rng))
        if label == 0:
            picture[0, :, at : at + 2] = 1
        elif label == 1:
            picture[0, at : at + 2, :] = 1
        else:
            picture[0, at : at + 3, at : at + 3] = 1
    pictures += 0.2 * torch.randn(pictures.shape, generator=rng)
    return (pictures.clamp(0, 1) * 255).to(torch.uint8), labels


def test_train__learns_from_few_labels(fixmatch: Any) -> None:
    pictures, labels = bars(300, seed=1)
    test, truth = bars(150, seed=2)
    torch.set_num_threads(1)
    net = fixmatch.train(
        pictures[:9], labels[:9], pictures[9:], classes=3, steps=120, mu=2, decay=0.9, rate=0.1
    )
    assert fixmatch.accuracy(net, test, truth) > 0.85


def test_train__same_seed_same_net_and_unlabeled_rows_matter(fixmatch: Any) -> None:
    pictures, labels = bars(60, seed=3)
    nets = [
        fixmatch.train(pictures[:9], labels[:9], rest, classes=3, steps=15, mu=2, tau=tau)
        for rest, tau in ((pictures[9:], 0.0), (pictures[9:], 0.0), (pictures[9:], 1.1), (None, 0.0))
    ]
    weights = [torch.cat([value.flatten() for value in net.parameters()]) for net in nets]
    assert torch.equal(weights[0], weights[1])
    # Nothing is ever certain beyond 1: no pseudo-label counts, and the net differs.
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_weak__mirrors_or_keeps_a_centered_picture(fixmatch: Any) -> None:
    picture = torch.zeros(1, 1, 17, 17)
    picture[0, 0, 8, 7:10] = torch.tensor([1.0, 0.5, 0.25])
    seen = fixmatch.weak(picture.expand(64, 1, 17, 17), torch.Generator().manual_seed(0))
    assert seen.shape == (64, 1, 17, 17)
    assert float(seen.min()) >= 0
    # The mass moves by at most an eighth of the side and none is lost.
    assert torch.allclose(seen.sum((1, 2, 3)), torch.tensor(1.75), atol=0.02)
    rows = (seen.sum((1, 3)) * torch.arange(17)).sum(1) / seen.sum((1, 2, 3))
    assert float((rows - 8).abs().max()) <= 17 / 8 + 0.01


def test_strong__stays_a_picture_and_differs_each_time(fixmatch: Any) -> None:
    pictures, _ = bars(8, seed=4)
    rng = torch.Generator().manual_seed(0)
    first, second = (fixmatch.strong(pictures.float() / 255, rng) for _ in range(2))
    assert first.shape == (8, 1, 16, 16)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert float((first - second).abs().mean((1, 2, 3)).min()) > 0.01


def test_move__identity_leaves_the_picture(fixmatch: Any) -> None:
    pictures = torch.rand(3, 3, 9, 9)
    one, none = torch.ones(3), torch.zeros(3)
    seen = fixmatch.move(pictures, none, one, one, torch.zeros(3, 2))
    assert torch.allclose(seen, pictures, atol=1e-5)
    mirrored = fixmatch.move(pictures, none, -one, one, torch.zeros(3, 2))
    assert torch.allclose(mirrored, pictures.flip(3), atol=1e-5)
    assert functional.mse_loss(mirrored, pictures) > 0.01


def test_network__has_24_thousand_parameters(fixmatch: Any) -> None:
    count = sum(weight.numel() for weight in fixmatch.network(1, 10).parameters())
    assert 23_500 < count < 24_500

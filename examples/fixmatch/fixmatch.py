"""FixMatch (Sohn et al., NeurIPS 2020) in plain torch, trained from an export; no framework, no data loader.

    usl-backend export 12 --format csv --media link --output split
    python fixmatch.py split --test test.csv

`split` holds labeled.csv, unlabeled.csv and manifest.json; `test.csv` has the columns file and label, files
relative to itself. All images are held in memory. `--smoke` needs no arguments: it makes a split of its own.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as dictionaries."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def read_images(rows: list[dict[str, str]], *, root: Path, size: int) -> Tensor:
    """Images of the rows, (n, 3, size, size) bytes; (n, 1, size, size) where all are grey."""
    images = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    for place, row in enumerate(rows):
        with Image.open(root / (row.get("file") or row["source"])) as image:
            images[place] = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    grey = bool((pixels[:, :1] == pixels).all())
    return pixels[:, : 1 if grey else 3].contiguous()


def weak(images: Tensor, rng: torch.Generator) -> Tensor:
    """Mirror half of the images and shift all by up to an eighth of their side."""
    n = len(images)
    mirror = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    shift = (torch.rand(n, 2, generator=rng) * 2 - 1) / 4  # 2 units are a whole side
    return _move(images, torch.zeros(n), mirror, torch.ones(n), shift)


def strong(images: Tensor, rng: torch.Generator) -> Tensor:
    """Turn, stretch, shift and mirror, change contrast and brightness, cut out a square."""
    n, _, height, width = images.shape

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=rng)

    mirror = torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    shift = torch.stack([between(-0.3, 0.3), between(-0.3, 0.3)], 1)
    images = _move(images, between(-0.5, 0.5), mirror * between(0.7, 1.3), between(0.7, 1.3), shift)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (
        (images - mean) * between(0.4, 1.6).view(-1, 1, 1, 1) + mean + between(-0.2, 0.2).view(-1, 1, 1, 1)
    )
    top, left = between(0, 1) * height, between(0, 1) * width
    rows, columns = torch.arange(height).view(1, -1, 1), torch.arange(width).view(1, 1, -1)
    reach = between(0, 0.25).view(-1, 1, 1)
    hole = ((rows - top.view(-1, 1, 1)).abs() < reach * height) & (
        (columns - left.view(-1, 1, 1)).abs() < reach * width
    )
    return images.masked_fill(hole.unsqueeze(1), 0.5).clamp(0, 1)


def _move(images: Tensor, angle: Tensor, stretch_x: Tensor, stretch_y: Tensor, shift: Tensor) -> Tensor:
    """One affine map per image; what comes from outside repeats the border."""
    cos, sin = angle.cos(), angle.sin()
    top = torch.stack([cos * stretch_x, -sin * stretch_y, shift[:, 0]], 1)
    bottom = torch.stack([sin * stretch_x, cos * stretch_y, shift[:, 1]], 1)
    grid = functional.affine_grid(torch.stack([top, bottom], 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def network(channels: int, classes: int) -> nn.Sequential:
    """Three convolutions, 24 thousand parameters."""

    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)]
    net = nn.Sequential(*block(channels, 16, 2), *block(16, 32, 2), *block(32, 64, 1), *head)
    return net.to(memory_format=torch.channels_last)


def train(
    labeled: Tensor, labels: Tensor, unlabeled: Tensor | None, *, classes: int, seed: int = 0, steps: int = 500,
    batch: int = 16, mu: int = 7, tau: float = 0.95, decay: float = 0.99, rate: float = 0.03,
) -> nn.Module:  # fmt: skip
    """Train on bytes (n, c, h, w); without unlabeled images only on the labeled ones. Returns the averaged net."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = network(labeled.shape[1], classes)
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: math.cos(7 * math.pi * s / (16 * steps)))

    def draw(images: Tensor, count: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(images), (count,), generator=rng)
        return images[rows].float() / 255, rows

    for _ in range(steps):
        known, rows = draw(labeled, batch)
        inputs = [weak(known, rng)]
        if unlabeled is not None:
            some, _ = draw(unlabeled, batch * mu)
            inputs += [weak(some, rng), strong(some, rng)]
        logits = net(torch.cat(inputs))
        loss = functional.cross_entropy(logits[:batch], labels[rows])
        if unlabeled is not None:
            easy, hard = logits[batch:].chunk(2)
            # The net's own confident answers on the weak view are the truth for the strong view.
            confidence, guess = easy.detach().softmax(1).max(1)
            loss = (
                loss + (functional.cross_entropy(hard, guess, reduction="none") * (confidence >= tau)).mean()
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cosine.step()
        with torch.no_grad():
            for kept, now in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
                kept.lerp_(now, 1 - decay) if kept.is_floating_point() else kept.copy_(now)
    return average.eval()


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of right classes, 0 to 1."""
    guesses = torch.cat([net(part.float() / 255).argmax(1) for part in images.split(1000)])
    return float((guesses == labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("split", type=Path, nargs="?", help="directory written by usl-backend export")
    parser.add_argument("--test", type=Path, help="CSV with the columns file and label")
    parser.add_argument("--root", type=Path, help="folder of the files, for a split without files of its own")
    parser.add_argument("--size", type=int, default=28, help="side to which images are resized")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--decay", type=float, default=0.99, help="share of the average kept at each step")
    parser.add_argument("--rate", type=float, default=0.03, help="learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a short run on a split of its own")
    options = parser.parse_args()
    if options.smoke:
        from prepare import prepare

        with tempfile.TemporaryDirectory() as folder:
            options.split, options.test = prepare(Path(folder), per_class=4, pool=150, test=100)
            # So few steps want a shorter memory.
            options.steps, options.decay, options.rate = 40, 0.9, 0.1
            run(options)
    elif options.split is None:
        parser.error("name the split, or use --smoke")
    else:
        run(options)


def run(options: argparse.Namespace) -> None:
    """Train with and without the unlabeled rows, and say what the labels were worth."""
    classes = json.loads((options.split / "manifest.json").read_text(encoding="utf-8"))["classes"]
    rows = read_rows(options.split / "labeled.csv")
    root = options.root or options.split
    labeled = read_images(rows, root=root, size=options.size)
    labels = torch.tensor([classes.index(row["label"]) for row in rows])
    unlabeled = read_images(read_rows(options.split / "unlabeled.csv"), root=root, size=options.size)
    print(f"{len(labeled)} labeled and {len(unlabeled)} unlabeled images, {len(classes)} classes")
    settings = {name: getattr(options, name) for name in ("seed", "steps", "decay", "rate")}
    nets = {
        "labeled rows only": train(labeled, labels, None, classes=len(classes), **settings),
        "FixMatch": train(labeled, labels, unlabeled, classes=len(classes), **settings),
    }
    if options.test is None:
        torch.save(nets["FixMatch"].state_dict(), options.split.with_suffix(".pt"))
        print(f"written: {options.split.with_suffix('.pt')}")
        return
    rows = read_rows(options.test)
    images = read_images(rows, root=options.test.parent, size=options.size)
    truth = torch.tensor([classes.index(row["label"]) for row in rows])
    for name, net in nets.items():
        print(f"{name}: accuracy {accuracy(net, images, truth):.3f} on {len(rows)} test images")


if __name__ == "__main__":
    main()

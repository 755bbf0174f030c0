"""FixMatch (Sohn et al., NeurIPS 2020) in plain torch, trained from an export; no framework, no data loader.

    usl-backend export 12 --format csv --media link --output split
    python fixmatch.py split --test test.csv

`split` holds labeled.csv, unlabeled.csv and manifest.json; `test.csv` has the columns file and label, files
relative to itself. All images are held in memory. `--smoke` needs no arguments: it makes a split of its own.
"""

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


def read(path: Path, root: Path, size: int = 28) -> tuple[Tensor, list[str]]:
    """Images, (n, 3, size, size) bytes or (n, 1, size, size) where all are grey, and labels of a CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    images = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    for place, row in enumerate(rows):
        with Image.open(root / (row.get("file") or row["source"])) as image:
            images[place] = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    grey = bool((pixels[:, :1] == pixels).all())
    return pixels[:, : 1 if grey else 3].contiguous(), [row.get("label", "") for row in rows]


def between(low: float, high: float, shape: list[int], rng: torch.Generator) -> Tensor:
    """Uniform numbers."""
    return low + (high - low) * torch.rand(shape, generator=rng)


def weak(images: Tensor, rng: torch.Generator) -> Tensor:
    """Mirror half of the images and shift all by up to an eighth of their side."""
    n = len(images)
    mirror = torch.rand(n, generator=rng).sub(0.5).sign()
    # A whole side is 2 units long.
    return move(images, torch.zeros(n), mirror, torch.ones(n), between(-0.25, 0.25, [n, 2], rng))


def strong(images: Tensor, rng: torch.Generator) -> Tensor:
    """Turn, stretch, shift and mirror, change contrast and brightness, cut out a square."""
    n, _, height, width = images.shape
    mirror = torch.rand(n, generator=rng).sub(0.5).sign()
    stretch = between(0.7, 1.3, [2, n], rng)
    shift = between(-0.3, 0.3, [n, 2], rng)
    images = move(images, between(-0.5, 0.5, [n], rng), mirror * stretch[0], stretch[1], shift)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * between(0.4, 1.6, [n, 1, 1, 1], rng) + mean
    images = images + between(-0.2, 0.2, [n, 1, 1, 1], rng)
    middle, reach = between(0, 1, [2, n, 1, 1], rng), between(0, 0.25, [n, 1, 1], rng)
    rows = (torch.linspace(0, 1, height).view(1, -1, 1) - middle[0]).abs() < reach
    columns = (torch.linspace(0, 1, width).view(1, 1, -1) - middle[1]).abs() < reach
    return images.masked_fill((rows & columns).unsqueeze(1), 0.5).clamp(0, 1)


def move(images: Tensor, angle: Tensor, stretch_x: Tensor, stretch_y: Tensor, shift: Tensor) -> Tensor:
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
    return nn.Sequential(*block(channels, 16, 2), *block(16, 32, 2), *block(32, 64, 1), *head)


def train(
    labeled: Tensor, labels: Tensor, unlabeled: Tensor | None, *, classes: int, seed: int = 0, steps: int = 500,
    batch: int = 16, mu: int = 7, tau: float = 0.95, decay: float = 0.99, rate: float = 0.3,
) -> nn.Module:  # fmt: skip
    """Train on bytes (n, c, h, w); without unlabeled images only on the labeled ones. Returns the averaged net."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    net = network(labeled.shape[1], classes)
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: math.cos(7 * math.pi * s / (16 * steps)))
    for step in range(steps):
        rows = torch.randint(len(labeled), (batch,), generator=rng)
        inputs = [weak(labeled[rows].float() / 255, rng)]
        if unlabeled is not None:
            some = unlabeled[torch.randint(len(unlabeled), (batch * mu,), generator=rng)].float() / 255
            inputs += [weak(some, rng), strong(some, rng)]
        logits = net(torch.cat(inputs))
        loss = functional.cross_entropy(logits[:batch], labels[rows])
        if unlabeled is not None:
            easy, hard = logits[batch:].chunk(2)
            # The net's own confident answers on the weak view are the truth for the strong view.
            confidence, guess = easy.detach().softmax(1).max(1)
            wrong = functional.cross_entropy(hard, guess, reduction="none")
            loss = loss + (wrong * (confidence >= tau)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cosine.step()
        with torch.no_grad():
            forget = 1 - min(decay, (1 + step) / (10 + step))  # the first nets are soon forgotten
            for kept, now in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
                kept.lerp_(now, forget) if kept.is_floating_point() else kept.copy_(now)
    return average.eval()


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of right classes, 0 to 1."""
    guesses = torch.cat([net(part.float() / 255).argmax(1) for part in images.split(1000)])
    return float((guesses == labels).float().mean())


def run(split: Path, test: Path, *, steps: int, seed: int) -> None:
    """Train with and without the unlabeled rows, and say what the labels were worth."""
    classes = json.loads((split / "manifest.json").read_text(encoding="utf-8"))["classes"]
    labeled, names = read(split / "labeled.csv", split)
    unlabeled, _ = read(split / "unlabeled.csv", split)
    labels = torch.tensor([classes.index(name) for name in names])
    images, names = read(test, test.parent)
    truth = torch.tensor([classes.index(name) for name in names])
    print(f"{len(labeled)} labeled and {len(unlabeled)} unlabeled images, {len(classes)} classes")
    ways = [("labeled rows only", labeled, labels, None), ("FixMatch", labeled, labels, unlabeled)]
    for name, accepted_only in (
        ("accepted suggestions as labels", True),
        ("all suggestions as labels", False),
    ):
        if (split / "suggested.csv").is_file():
            more, kinds = suggested(split, classes, accepted_only=accepted_only)
            if len(more):
                both = torch.cat([labeled, more]), torch.cat([labels, kinds])
                ways.append((f"{len(more)} {name}", *both, None))
            else:
                print(f"{name}: there are none")
    for name, rows, kinds, rest in ways:
        net = train(rows, kinds, rest, classes=len(classes), seed=seed, steps=steps)
        print(f"{name}: accuracy {accuracy(net, images, truth):.3f} on {len(truth)} test images")


def suggested(split: Path, classes: list[str], *, accepted_only: bool) -> tuple[Tensor, Tensor]:
    """Images and classes of an export's suggestions: labels that nobody gave."""
    images, names = read(split / "suggested.csv", split)
    with (split / "suggested.csv").open(encoding="utf-8", newline="") as stream:
        taken = [row["accepted"] == "True" or not accepted_only for row in csv.DictReader(stream)]
    kept = torch.tensor(taken, dtype=torch.bool)
    return images[kept], torch.tensor([classes.index(name) for name in names])[kept]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("split", type=Path, nargs="?", help="directory written by usl-backend export")
    parser.add_argument("--test", type=Path, help="CSV with the columns file and label")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="a short run on a split of its own")
    options = parser.parse_args()
    if options.smoke:
        from prepare import prepare

        with tempfile.TemporaryDirectory() as folder:
            split, test = prepare(Path(folder), per_class=4, pool=150, test=100, control=50)
            run(split, test, steps=40, seed=options.seed)
    elif options.split is None or options.test is None:
        parser.error("name the split and --test, or use --smoke")
    else:
        run(options.split, options.test, steps=options.steps, seed=options.seed)

"""USL-T in mode "finetune" on the demo's real pictures: time per epoch, memory, and the worth of the picks.

With a GPU it also compares the losses of one batch on both devices.

    python benchmarks/uslt_finetune.py --pictures 300 --size 64 --epochs 5
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from usl_backend.demo.dataset import load
from usl_backend.encoders import backbone
from usl_backend.encoders import load as load_encoder
from usl_backend.encoders.augmentation import PictureAugmentation
from usl_backend.encoders.images import without_tf32
from usl_backend.evaluation import class_spread, linear_accuracy, nearest_neighbor_accuracy
from usl_backend.selection import USL, USLT, Random
from usl_backend.selection.uslt.finetuning import PictureTrainer
from usl_backend.selection.uslt.heads import make_head
from usl_backend.selection.uslt.losses import GlobalLoss, LocalLoss


def pictures(count: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the first pictures of the demo, (n, size, size, 3), and their classes."""
    held = load()
    scaled = [
        np.asarray(Image.fromarray(one).convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
        for one in held.images[:count]
    ]
    return np.stack(scaled), held.labels[:count]


def devices_apart(stack: NDArray[np.uint8], rows: NDArray[np.float32], encoder: str, size: int) -> float:
    """Compare both losses of one batch on CPU and GPU, in float32 and without dropout: the largest difference."""
    rng, told = np.random.default_rng(0), []
    start = torch.from_numpy(rows[rng.choice(len(rows), 10, replace=False)])
    other = torch.from_numpy(rng.permutation(len(rows)))
    batch = torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255
    for device in ("cpu", "cuda"):
        network = backbone(encoder, image_size=size).to(device).eval()
        head = make_head("normed", inputs=rows.shape[1], outputs=10, start=start, generator=torch.Generator())
        with torch.inference_mode(), without_tf32(torch.device(device)):
            logits = head.to(device)(network(batch.to(device)))
            local = LocalLoss(2.5, 0.5, torch.full((10,), 0.1, device=device))(
                logits, logits[other.to(device)]
            )
            whole, _ = GlobalLoss(0.0, "renormalised", True)(logits, logits[other.to(device)])
        told.append(np.array([float(local), float(whole)]))
    return float(np.abs(told[0] - told[1]).max())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=300, help="at most 1,200")
    parser.add_argument("--size", type=int, default=64, help="side in pixels")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    stack, classes = pictures(options.pictures, options.size)
    rows = load_encoder(options.encoder, image_size=options.size).encode(list(stack))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def worth(picks: NDArray[np.int64]) -> dict[str, float]:
        rest = np.setdiff1d(np.arange(len(rows)), picks)
        shown = {"classes": classes[picks], "test_rows": rows[rest], "test_classes": classes[rest]}
        spread = class_spread(classes[picks], classes=10)
        return {
            "covered": spread.covered, "evenness": round(spread.evenness, 3),
            "1-nn": round(nearest_neighbor_accuracy(rows[picks], **shown), 3),
            "linear": round(linear_accuracy(rows[picks], **shown), 3),
        }  # fmt: skip

    trainer = PictureTrainer(
        stack, backbone(options.encoder, image_size=options.size), PictureAugmentation(options.size)
    )
    began, processor = time.monotonic(), time.process_time()
    tuned = USLT(
        mode="finetune", epochs=options.epochs, learning_rate=options.learning_rate, trainer=trainer
    ).select(rows, options.budget, rng=0)
    wall, cpu = time.monotonic() - began, time.process_time() - processor
    gpu = torch.cuda.is_available()
    figures = {
        "device": torch.cuda.get_device_name() if gpu else "cpu", "pictures": options.pictures,
        "size": options.size, "wall_s_per_epoch": round(wall / options.epochs, 2),
        "cpu_s_per_epoch": round(cpu / options.epochs, 2),
        "memory_mib": round(torch.cuda.max_memory_allocated() / 2**20) if gpu
        else round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024),
        "losses_cpu_gpu_apart": devices_apart(stack[:64], rows[:64], options.encoder, options.size)
        if gpu else None,
        "local_loss": tuned.diagnostics["training"]["local_loss"],
        "global_loss": tuned.diagnostics["training"]["global_loss"],
        "clusters_in_use": tuned.diagnostics["training"]["clusters_in_use"],
        "finetune": worth(tuned.indices),
        "heads": worth(USLT().select(rows, options.budget, rng=0).indices),
        "usl": worth(USL().select(rows, options.budget, rng=0).indices),
        "random": worth(Random().select(rows, options.budget, rng=0).indices),
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

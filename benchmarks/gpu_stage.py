"""Pictures per second from JPEG files to rows on a GPU, today's way and with what might make it faster, in 8 minutes.

Processes decode, this process encodes, as in a run without its cache. Each way adds to the one before it, for
EfficientNet-Lite0 and for a ViT-B/16 with random weights, which is as fast as with trained ones:

    forward        the network alone, pictures in the device's memory: what the ways are compared with
    pipes          today: pictures of the network's size come pickled through pipes and are copied batch by batch
    ring           pictures are written into shared memory, whose slots the processes fill in turn
    pinned         each slot goes through a pinned buffer, copied while the batch before it is computed
    resized there  processes only decode; pictures are scaled on the device
    half           the network computes in bfloat16, channels last
    nvjpeg         the device decodes too: torchvision.io.decode_jpeg; no processes

    python benchmarks/gpu_stage.py --tests --json gpu_stage.json
    python benchmarks/gpu_stage.py --device cpu --quick

The second command tries on a CPU what does not need CUDA, with small networks' sizes and few pictures: its rates mean
nothing. `--tests` also names the tests of encoders and embedding that fail on this machine.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import multiprocessing.connection
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
from embedding import demo_pictures, pictures_below
from numpy.typing import NDArray

WAYS = ("pipes", "ring", "pinned", "resized there", "half", "nvjpeg")
CUDA_ONLY = frozenset({"pinned", "nvjpeg"})
SECONDS = 12.0
"""Least time of a measurement, beside what its last batch takes; the start of the processes is not counted."""


def decoded(path: Path, size: int) -> NDArray[np.uint8]:
    """Decode a picture to a square as a run does; of size 0 as it is."""
    from PIL import Image

    from usl_backend.media import MediaLimits, decode_image

    data = path.read_bytes()
    if size:
        return decode_image(data, size=size, limits=MediaLimits())
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def send_pictures(end: Any, paths: list[Path], size: int, batch: int) -> None:
    """Decode again and again, and send pictures through a pipe until nobody listens."""
    try:
        while True:
            for start in range(0, len(paths), batch):
                end.send([decoded(path, size) for path in paths[start : start + batch]])
    except (BrokenPipeError, ConnectionError):
        return


def fill_slots(end: Any, memory: SharedMemory, paths: list[Path], size: int, shape: tuple[int, ...]) -> None:
    """Decode into the slots whose numbers arrive, until none arrives."""
    slots: NDArray[np.uint8] = np.ndarray(shape, dtype=np.uint8, buffer=memory.buf)
    at = 0
    try:
        while (slot := end.recv()) is not None:
            for row in range(shape[1]):
                slots[slot, row] = decoded(paths[at % len(paths)], size)
                at += 1
            end.send(slot)
    except EOFError:
        pass
    del slots
    memory.close()


def ready(ends: list[Any]) -> list[Any]:
    """Wait for one of some pipes at least, and return those that have something."""
    return list(multiprocessing.connection.wait(ends))


class Stage:
    """Sources of batches and a network on a device."""

    def __init__(self, options: argparse.Namespace, paths: list[Path], network: str) -> None:
        import torch

        self.torch, self.options, self.paths = torch, options, paths
        self.device = torch.device(options.device)
        self.size: int = 64 if options.quick else 224
        self.batch: int = 16 if options.quick else options.batch
        self.context = multiprocessing.get_context("spawn")
        self.module, self.mean, self.std = self._network(network)

    def _network(self, name: str) -> tuple[Any, Any, Any]:
        """Build a network with its normalization."""
        torch = self.torch
        if name == "efficientnet-lite0":
            from usl_backend.encoders import image_network
            from usl_backend.encoders.images import fold_batch_norm

            held = image_network(name, image_size=self.size)
            module, mean, std = fold_batch_norm(held.module), held.mean, held.std
        else:
            from usl_backend.encoders.vision import import_torchvision

            module = import_torchvision().models.vit_b_16(weights=None, image_size=self.size)
            mean, std = (127.0,) * 3, (128.0,) * 3
        scale = [torch.tensor(one, device=self.device).reshape(1, 3, 1, 1) for one in (mean, std)]
        placed: Any = module.eval().to(self.device)
        return placed.to(memory_format=torch.channels_last), scale[0], scale[1]

    def encode(self, pixels: Any, *, half: bool) -> Any:
        """Encode (b, h, w, 3) uint8 on the device."""
        torch = self.torch
        with torch.inference_mode():
            inputs = pixels.permute(0, 3, 1, 2).float()
            if inputs.shape[-1] != self.size:
                inputs = torch.nn.functional.interpolate(
                    inputs, (self.size, self.size), mode="bilinear", antialias=True
                )
            inputs = (inputs - self.mean) / self.std
            if half:
                with torch.autocast(self.device.type, dtype=torch.bfloat16):
                    return self.module(inputs).float()
            return self.module(inputs)

    def rate(self, batches: Iterator[Any], *, half: bool) -> float:
        """Encode batches that arrive on the device; return pictures per second."""
        wait: Callable[[], object] = (
            self.torch.cuda.synchronize if self.device.type == "cuda" else lambda: None
        )
        for _ in range(2):
            self.encode(next(batches), half=half).cpu()
        wait()
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < (0.5 if self.options.quick else SECONDS):
            rows = self.encode(next(batches), half=half)
            count += len(rows)
            rows.cpu()
        wait()
        return count / (time.perf_counter() - begun)

    def resident(self) -> Iterator[Any]:
        """Yield the same pictures again and again."""
        shape = (self.batch, self.size, self.size, 3)
        pixels = self.torch.randint(0, 256, shape, dtype=self.torch.uint8, device=self.device)
        while True:
            yield pixels

    def pipes(self) -> Iterator[Any]:
        """Yield what processes send through pipes."""
        ends, processes = [], []
        for number in range(self.options.workers):
            mine, other = self.context.Pipe()
            part = self.paths[number :: self.options.workers]
            process = self.context.Process(
                target=send_pictures, args=(other, part, self.size, 16), daemon=True
            )
            process.start()
            other.close()
            ends.append(mine)
            processes.append(process)
        waiting: list[NDArray[np.uint8]] = []
        try:
            while True:
                for end in ready(ends):
                    waiting += end.recv()
                while len(waiting) >= self.batch:
                    pixels = np.stack(waiting[: self.batch])
                    del waiting[: self.batch]
                    yield self.torch.from_numpy(pixels).to(self.device)
        finally:
            for process in processes:
                process.terminate()

    def ring(self, side: int, *, scaled: bool, pinned: bool) -> Iterator[Any]:
        """Yield what processes write into shared memory, two slots for each of them."""
        torch, workers = self.torch, self.options.workers
        shape = (2 * workers, self.batch, side, side, 3)
        memory = SharedMemory(create=True, size=int(np.prod(shape)))
        slots: NDArray[np.uint8] = np.ndarray(shape, dtype=np.uint8, buffer=memory.buf)
        ends, processes = [], []
        for number in range(workers):
            mine, other = self.context.Pipe()
            part = self.paths[number::workers]
            process = self.context.Process(
                target=fill_slots, args=(other, memory, part, side if scaled else 0, shape), daemon=True
            )
            process.start()
            other.close()
            mine.send(2 * number)
            mine.send(2 * number + 1)
            ends.append(mine)
            processes.append(process)
        staging = [torch.empty(shape[1:], dtype=torch.uint8, pin_memory=True) for _ in range(2 * pinned)]
        copying = torch.cuda.Stream() if pinned else None
        turn = 0
        ahead: Any = None
        try:
            while True:
                for end in ready(ends):
                    slot = end.recv()
                    if not pinned:
                        pixels = torch.from_numpy(slots[slot].copy()).to(self.device)
                        end.send(slot)
                        yield pixels
                        continue
                    buffer, turn = staging[turn], 1 - turn
                    buffer.numpy()[:] = slots[slot]
                    end.send(slot)
                    with torch.cuda.stream(copying):
                        moved, copied = buffer.to(self.device, non_blocking=True), torch.cuda.Event()
                        copied.record()
                    before, ahead = ahead, (moved, copied)
                    if before is not None:
                        before[1].wait()
                        before[0].record_stream(torch.cuda.current_stream())
                        yield before[0]
        finally:
            for process in processes:
                process.terminate()
                process.join()
            del slots
            memory.close()
            memory.unlink()

    def nvjpeg(self) -> Iterator[Any]:
        """Yield pictures that the device decodes."""
        from torchvision.io import decode_jpeg

        torch, at = self.torch, 0
        files = [torch.from_numpy(np.fromfile(path, dtype=np.uint8)) for path in self.paths]
        while True:
            some = [files[(at + row) % len(files)] for row in range(self.batch)]
            at += self.batch
            yield torch.stack(decode_jpeg(some, device=self.device)).permute(0, 2, 3, 1)


def ways(stage: Stage, side: int) -> dict[str, Callable[[], float]]:
    """Return each measurement by its name."""

    def ring(side: int, *, scaled: bool, pinned: bool, half: bool = False) -> float:
        batches = stage.ring(side, scaled=scaled, pinned=pinned)
        try:
            return stage.rate(batches, half=half)
        finally:
            batches.close()  # type: ignore[attr-defined]

    cuda = stage.device.type == "cuda"
    return {
        "forward": lambda: stage.rate(stage.resident(), half=False),
        "forward, half": lambda: stage.rate(stage.resident(), half=True),
        "pipes": lambda: stage.rate(stage.pipes(), half=False),
        "ring": lambda: ring(stage.size, scaled=True, pinned=False),
        "pinned": lambda: ring(stage.size, scaled=True, pinned=True),
        "resized there": lambda: ring(side, scaled=False, pinned=cuda),
        "half": lambda: ring(side, scaled=False, pinned=cuda, half=True),
        "nvjpeg": lambda: stage.rate(stage.nvjpeg(), half=True),
    }


def failing_tests() -> list[str]:
    """Run the tests that a GPU may change, for two minutes at most; return the names of those that fail."""
    root = Path(__file__).parent.parent
    rooms = ["tests/encoders", "tests/embedding", "tests/selection/uslt"]
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n0",
        "-rfE",
        *(one for one in rooms if (root / one).exists()),
    ]
    try:
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired as error:
        told = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        return ["not all were run in two minutes", *_failed(told)]
    return _failed(done.stdout)


def _failed(told: str) -> list[str]:
    return [line for line in told.splitlines() if line.startswith(("FAILED", "ERROR"))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="64 px, 64 pictures, half a second for each way")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--workers", type=int, default=16, help="processes that read and decode")
    parser.add_argument("--tests", action="store_true", help="name failing tests, too")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    if options.quick:
        options.workers = 2
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = pictures_below(demo_pictures(Path(folder), 64 if options.quick else 4096))
        side = decoded(paths[0], 0).shape[0]
        for network in ("efficientnet-lite0", "vit-b-16"):
            rates: dict[str, float | str] = {}
            for name, measured in ways(Stage(options, paths, network), side).items():
                if name in CUDA_ONLY and options.device != "cuda":
                    rates[name] = "needs CUDA"
                else:
                    try:
                        rates[name] = round(measured(), 1)
                    except (RuntimeError, ImportError, AttributeError, TypeError) as error:
                        rates[name] = f"failed: {str(error)[:100]}"
                print(f"{network:<20}{name:<16}{rates[name]}", flush=True)
            found[network] = rates
    if options.tests:
        found["failing tests"] = failing_tests()
        print("\n".join(found["failing tests"]) or "no test fails")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

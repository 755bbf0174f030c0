"""Embedding and selecting on a Ray cluster of two nodes on this machine, beside the same work without one.

Pictures are Fashion-MNIST (Debian's dataset-fashion-mnist), flipped and shifted until there are enough; rows to select
from are those of `scale.py`. A process of each node is killed on the way, and every result must be the same bits.

    python benchmarks/cluster.py --pictures 200000 --rows 200000 --budget 1000 --json cluster.json
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scale import make_rows

from usl_backend import encoders
from usl_backend.distributed import Cluster, ClusterBlocks, connect
from usl_backend.distributed.cluster import load_ray, stay_on_this_machine
from usl_backend.embedding.cache import EmbeddingCache
from usl_backend.embedding.cluster import Elsewhere, WorkerPlan, embed_on_cluster
from usl_backend.embedding.stage import embed
from usl_backend.instances import Instance
from usl_backend.selection import USL
from usl_backend.selection.rows.threads import computing_on
from usl_backend.sources.media import MediaAccess

FASHION = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
SIZE = 32
LOAD = partial(encoders.load, "efficientnet-lite0", image_size=SIZE)


@contextmanager
def two_nodes() -> Iterator[Cluster]:
    """Run two Ray nodes of one CPU each on the loopback address."""
    stay_on_this_machine()
    load_ray()
    from ray.cluster_utils import Cluster as Machines

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 2 << 30, "node_ip_address": "127.0.0.1"}
    machines = Machines(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        machines.add_node(**node)
        machines.wait_for_nodes()
        with connect(machines.address) as cluster:
            yield cluster
    finally:
        machines.shutdown()  # type: ignore[no-untyped-call]


def kill_one(name: str) -> bool:
    """Kill a process of the cluster below this one that is at work on `name`."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(
                int(stat.parent.name)
            )
        except (OSError, IndexError):
            continue
    below = [os.getpid()]
    for pid in below:
        below += parents.get(pid, [])
    for pid in below[1:]:
        try:
            if Path(f"/proc/{pid}/cmdline").read_text().startswith(f"ray::{name}"):
                os.kill(pid, signal.SIGKILL)
                return True
        except OSError:
            continue
    return False


class Killer:
    """A progress callback that kills one process once a third of a step is done."""

    def __init__(self, name: str) -> None:
        self.name, self.killed = name, False

    def __call__(self, _step: str, done: int, total: int) -> None:
        """Take the progress of a step, and kill once it is a third done."""
        if not self.killed and 3 * done >= total > done:
            self.killed = kill_one(self.name)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.perf_counter()
    found = work()
    return found, round(time.perf_counter() - begun, 1)


def write_pictures(count: int, folder: Path) -> list[Instance]:
    """Write pictures as PNG files: every one of the set, then the same flipped and shifted."""
    with gzip.open(FASHION) as stream:
        pictures = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    instances = []
    for number in range(count):
        turn, at = divmod(number, len(pictures))
        picture = pictures[at][:, :: -1 if turn % 2 else 1]
        picture = np.roll(picture, (turn // 2, turn // 2), axis=(0, 1))
        path = folder / f"{number}.png"
        Image.fromarray(picture).save(path, compress_level=1)
        instances.append(Instance(number, "image", str(path)))
    return instances


def compare_embedding(cluster: Cluster, instances: Sequence[Instance], folder: Path) -> dict[str, Any]:
    encoder = LOAD()
    pictures = Path(instances[0].source).parent

    def cache(name: str) -> EmbeddingCache:
        return EmbeddingCache(folder / name, encoder_key=encoder.key, dim=encoder.dim)

    killer = Killer("MapWorker")
    access = MediaAccess(roots=(pictures,))
    plan = WorkerPlan(LOAD, encoder.key, Elsewhere(cluster.address, access), workers=4, missing=0.0)
    (there, hashes), elsewhere = timed(
        lambda: embed_on_cluster(
            instances,
            plan=plan,
            cluster=cluster,
            cache=cache("there"),
            directory=folder / "a",
            progress=killer,
        )
    )
    with access.open() as media:
        (here, again), local = timed(
            lambda: embed(
                instances, media=media, encoder=encoder, cache=cache("here"),
                directory=folder / "b", progress=lambda *_: None, workers=4, missing=0.0,
            )
        )  # fmt: skip
    same = again == hashes and all(
        np.array_equal(here.embeddings[at : at + 8192], there.embeddings[at : at + 8192])
        for at in range(0, len(here), 8192)
    )
    return {
        "pictures": len(here),
        "local_s": local,
        "cluster_s": elsewhere,
        "killed": killer.killed,
        "same": same,
    }


def compare_selection(cluster: Cluster, rows: np.ndarray[Any, Any], budget: int) -> dict[str, Any]:
    killer = Killer("_compute")

    def remote() -> Any:
        with computing_on(ClusterBlocks(cluster)):
            return USL().select(rows, budget, rng=0, progress=killer)

    there, elsewhere = timed(remote)
    here, local = timed(lambda: USL(workers=2).select(rows, budget, rng=0))
    same = np.array_equal(here.indices, there.indices) and np.array_equal(here.cluster, there.cluster)
    return {
        "rows": len(rows), "budget": budget, "local_s": local, "cluster_s": elsewhere, "killed": killer.killed,
        "same": bool(same),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--budget", type=int, default=1_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, two_nodes() as cluster:
        folder = Path(name)
        rows = np.load(make_rows(arguments.rows, 128, folder=folder), allow_pickle=False)
        results = {"selection": compare_selection(cluster, rows, arguments.budget)}
        print("selection", results["selection"], flush=True)
        if arguments.pictures:
            (folder / "pictures").mkdir()
            instances = write_pictures(arguments.pictures, folder / "pictures")
            results["embedding"] = compare_embedding(cluster, instances, folder)
            print("embedding", results["embedding"], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")
    if not all(result["same"] and result["killed"] for result in results.values()):
        raise SystemExit("the cluster's results differ, or nothing was killed")


if __name__ == "__main__":
    main()

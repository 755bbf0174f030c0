"""On a real cluster of two nodes on this machine; killed processes are its own."""

import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from oracles import blobs

from usl_backend import encoders
from usl_backend.demo import dataset
from usl_backend.distributed import Cluster, ClusterBlocks
from usl_backend.embedding import cluster as embed_cluster
from usl_backend.embedding.cache import EmbeddingCache
from usl_backend.embedding.cluster import Elsewhere, WorkerPlan, embed_on_cluster
from usl_backend.embedding.stage import embed
from usl_backend.errors import EncoderError, StudioAuthError
from usl_backend.instances import Instance, Pool
from usl_backend.selection import USL
from usl_backend.selection.rows.threads import computing_on
from usl_backend.sources.media import MediaAccess

# Ray's own modules warn about what later versions of it and of its libraries will do.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

SIZE = 32


def descendants(pid: int) -> list[int]:
    """Every process below one."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    below = parents.get(pid, [])
    return below + [deeper for child in below for deeper in descendants(child)]


def kill_worker(*names: str) -> int:
    """Kill a process of the cluster that is at work; says how many there were to choose from."""
    busy = []
    for pid in descendants(os.getpid()):
        try:
            title = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if any(title.startswith(f"ray::{name}") for name in names):
            busy.append(pid)
    if busy:
        os.kill(busy[0], signal.SIGKILL)
    return len(busy)


def test_selection__picks_are_the_local_ones_though_a_worker_dies(cluster: Cluster) -> None:
    rows, _ = blobs(21_000, 32, seed=5, groups=60, dtype=np.float32)
    method = USL(density_weight=1.0, repulsion_weight=1.0)
    here = method.select(rows, 80, rng=1)
    killed = 0

    def progress(step: str, done: int, total: int) -> None:
        nonlocal killed
        if not killed and step == "finding neighbors":
            killed = kill_worker("_compute")

    with computing_on(ClusterBlocks(cluster)):
        there = method.select(rows, 80, rng=1, progress=progress)
    assert killed
    assert there.indices.tolist() == here.indices.tolist()
    assert there.gain.tobytes() == here.gain.tobytes()
    assert there.score.tobytes() == here.score.tobytes()
    assert np.array_equal(there.cluster, here.cluster)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    """Pictures, copies of some, and files that are none."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = dataset.write_images(folder)[:400]
    paths += paths[:20]
    for name, content in {
        "empty.png": b"",
        "page.png": b"<html></html>",
        "cut.png": paths[0].read_bytes()[:90],
    }.items():
        (folder / name).write_bytes(content)
        paths.append(folder / name)
    paths.append(folder / "none.png")
    several = Instance(9, "image", str(paths[5]), tuple(map(str, [folder / "cut.png", paths[300], paths[5]])))
    return [several, *(Instance(10 + number, "image", str(path)) for number, path in enumerate(paths))]


def test_embedding__pool_and_cache_are_the_local_ones_though_a_worker_dies(
    cluster: Cluster, pictures: list[Instance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_cluster, "BLOCK_ROWS", 32)
    monkeypatch.setattr(embed_cluster, "FLUSH_ROWS", 50)
    load = partial(encoders.load, "efficientnet-lite0", image_size=SIZE)
    encoder = load()
    access = MediaAccess(roots=(Path(pictures[0].source).parent,))

    def local(folder: str, cache: Path) -> tuple[Pool, list[str]]:
        with access.open() as media:
            return embed(
                pictures,
                media=media,
                encoder=encoder,
                cache=EmbeddingCache(cache, encoder_key=encoder.key, dim=encoder.dim),
                directory=tmp_path / folder,
                progress=lambda *_: None,
                workers=4,
                missing=0.0,
            )

    here, hashes = local("here", tmp_path / "cache")
    killed = 0
    seen = []

    def progress(step: str, done: int, total: int) -> None:
        nonlocal killed
        seen.append((done, total))
        killed = killed or kill_worker("MapWorker")

    cache = EmbeddingCache(tmp_path / "elsewhere", encoder_key=encoder.key, dim=encoder.dim)
    # Of a content with the same first bytes the workers believe that it is known: it goes out a second time.
    cache.append([hashes[8][:16] + 48 * "0"], here.embeddings[:1])
    cache.flush()
    plan = WorkerPlan(load, encoder.key, Elsewhere(cluster.address, access), workers=2, missing=0.0)
    remote = partial(embed_on_cluster, pictures, plan=plan, cluster=cluster, progress=progress)
    there, again = remote(cache=cache, directory=tmp_path / "there")
    assert killed
    assert again == hashes
    assert there.ids.tolist() == here.ids.tolist()
    assert there.embeddings.tobytes() == here.embeddings.tobytes()
    assert not np.isnan(here.traits[:, :3]).any()
    np.testing.assert_array_equal(there.traits, here.traits)
    assert there.skipped == here.skipped
    assert len(here.skipped) == 4
    assert there.incomplete == here.incomplete
    assert list(here.incomplete) == [9]
    assert seen[-1] == (len(pictures) + 2,) * 2
    # What the cluster wrote are ordinary shards: nothing is left to encode here.
    shards = list(cache.directory.glob("*.json"))
    assert len(shards) > 2
    monkeypatch.setattr(type(encoder), "encode", None)
    later, _ = local("later", tmp_path / "elsewhere")
    assert later.embeddings.tobytes() == here.embeddings.tobytes()
    assert list(cache.directory.glob("*.json")) == shards


def test_embedding__what_ends_a_run_comes_back_as_the_error_it_was(
    cluster: Cluster, pictures: list[Instance], tmp_path: Path
) -> None:
    load = partial(encoders.load, "efficientnet-lite0", image_size=SIZE)
    plan = WorkerPlan(load, load().key, Elsewhere(cluster.address, MediaAccess()), workers=1, missing=0.0)
    cache = EmbeddingCache(tmp_path, encoder_key="any", dim=1280)

    def embedded(instances: list[Instance], plan: WorkerPlan) -> None:
        embed_on_cluster(
            instances, plan=plan, cluster=cluster, cache=cache, directory=tmp_path, progress=lambda *_: None
        )

    with pytest.raises(EncoderError, match="takes images, but 7 is a text"):
        embedded([Instance(7, "text", "a text")], plan)
    with pytest.raises(EncoderError, match="this run wants other"):
        embedded(pictures[:2], replace(plan, encoder_key="other"))
    # The nodes were started without a token, and none travels.
    with pytest.raises(StudioAuthError, match="LABEL_STUDIO_API_KEY is not set on Ray node"):
        embedded(
            pictures[:2],
            replace(plan, elsewhere=Elsewhere(cluster.address, MediaAccess(studio="http://127.0.0.1:9"))),
        )

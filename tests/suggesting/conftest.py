"""A completed run over two clouds of rows."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from played_project import N

from usl_backend.instances import Instance, Pool, Queue
from usl_backend.runs import Run, RunStore
from usl_backend.runs.inventory import Inventory
from usl_backend.runs.published import Published
from usl_backend.runs.summary import EncoderNote, PoolNote, ProjectNote, Summary


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    store = RunStore(tmp_path)
    yield store
    store.close()


@pytest.fixture
def run(store: RunStore) -> Run:
    """A run whose picks are tasks 1, 2, 3, 4 and whose control set is 4 and 101 to 160."""
    run = store.claim(store.create(project=12, project_key="12.100", settings={"seed": 3}).id)
    files = store.files(run.id)
    files.write_instances(
        [Instance(task, "image", f"{task}.png") for task in range(1, N + 1)],
        Inventory(id=12, key="12.100", classes=("cat", "dog"), data_key="image"),
    )
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N, 8)) * 0.1 + np.where(np.arange(N) % 2 == 0, 1.0, -1.0)[:, None] * np.eye(8)[0]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    files.write_pool(Pool(np.arange(1, N + 1), rows.astype(np.float32)), ["00" * 32] * N)
    queue = Queue.of([1, 2, 3, 4], control=[4, *range(101, 161)], reserve=[5])
    files.write_published(Published(queue, model_version="usl-12-1"))
    summary = Summary(
        project=ProjectNote(12, "12.100", data_key="image"),
        pool=PoolNote(tasks=N),
        encoder=EncoderNote(key="lite0-128px"),
        model_version="usl-12-1",
    )
    store.finish(run.id, summary)
    return store.get(run.id)

import copy
import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from usl_backend.instances import Instance, Modality, Pool, Queue, QueueState
from usl_backend.report import build
from usl_backend.runs import Run, RunFiles, RunStore
from usl_backend.runs.inventory import Inventory
from usl_backend.runs.published import Published
from usl_backend.runs.summary import ProjectNote, Summary, Tab
from usl_backend.settings import RunSettings

FIRST = 1001
"""Id of the first task: ids must not be mistaken for rows."""


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((pixels.reshape(8, 8) * 15).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


class Made:
    """A run whose artifacts are there: real digits, a real selection, nothing of Label Studio."""

    def __init__(
        self,
        directory: Path,
        n: int,
        *,
        budget: int = 20,
        modality: Modality = "image",
        title: str = "Digits",
        **options: object,
    ) -> None:
        self.digits = load_digits().data[:n].astype(np.float32)
        self.store = RunStore(directory)
        settings = RunSettings.resolve(explicit={"budget": budget, **options}, environ={})
        run = self.store.create(project=12, project_key="12.1700000000", settings=settings.to_json())
        self.store.claim(run.id)
        self.files: RunFiles = self.store.files(run.id)
        self.ids = np.arange(FIRST, FIRST + n)
        source = "/data/upload/12/{}.png" if modality == "image" else "the digit in row {} of the table"
        instances = [
            Instance(int(i), modality, source.format(row)) for row, i in enumerate(self.ids.tolist())
        ]
        self.files.write_instances(instances, Inventory(title="Digits", skipped={7: '"image" is empty'}))
        lengths = np.linalg.norm(self.digits, axis=1, keepdims=True)
        self.files.write_pool(
            Pool(self.ids, self.digits / lengths, {5: "the file is empty (0 bytes)"}), ["00" * 32] * n
        )
        pool, _ = self.files.read_pool()
        self.selection = settings.selector().select(pool.embeddings, budget, rng=0)
        self.files.write_selection(self.selection)
        picks = self.ids[self.selection.indices].tolist()
        self.queue = Queue.of(picks)
        self.files.write_published(Published(self.queue, model_version="usl-12-1", view_id=3))
        self.summary = Summary(
            project=ProjectNote(12, "12.1700000000", title, "image"),
            picks=budget,
            model_version="usl-12-1",
            tab=Tab(3, "http://studio.test/projects/12/data?tab=3"),
        )
        self.store.finish(run.id, self.summary)
        state = QueueState(run.id, "usl-12-1", "Uncertainty sampling", 3, None, "Sequential sampling", None)
        self.store.save_queue_state("12.1700000000", state)

    @property
    def run(self) -> Run:
        return self.store.get(self.files.directory.name)

    def read(self, instance: Instance) -> bytes:
        return png(self.digits[instance.id - FIRST])

    def copied(self, directory: Path) -> "Made":
        """The same run in a data directory of its own; its own store was closed before."""
        shutil.copytree(self.store.directory, directory)
        made = copy.copy(self)
        made.store = RunStore(directory)
        made.files = made.store.files(self.files.directory.name)
        return made


class Kept:
    """Runs, and their reports, that are made once for the tests of a module; each test has a copy to itself."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._made: dict[object, Made] = {}

    def copy(self, directory: Path, n: int, *, report: bool = False, **options: object) -> Made:
        key = (n, report, *sorted(options.items()))
        if key not in self._made:
            made = Made(self.directory / str(len(self._made)), n, **options)
            if report:
                build(made.run, made.files)
            made.store.close()
            self._made[key] = made
        return self._made[key].copied(directory)

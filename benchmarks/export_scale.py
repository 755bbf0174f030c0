"""Time and memory of exports of 10,000 and 100,000 tasks of a real Label Studio, of which 1,000 are labeled.

    python benchmarks/export_scale.py

Every cell is a process of its own, timed in four parts: Label Studio's own answers, laying the labels over the run,
writing the format, and reading it back, which a user need not. The run's artifacts are made up (nothing is embedded
or chosen here); tasks, annotations and the files that Label Studio serves are real. Files are linked, and empty.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from usl_backend.demo.studio_server import LabelStudioServer
from usl_backend.studio.client import StudioClient
from usl_backend.studio.records import LabeledTask, Project

TOKEN = "0123456789abcdef0123456789abcdef01234567"
LABELED = 1_000
SIZES = (10_000, 100_000)
PER_IMPORT = 25_000
LIMIT_SECONDS, LIMIT_MB = 60, 200
RESULTS = Path(__file__).parent / "results" / "export_scale.json"
COLUMNS = ("studio_seconds", "split_seconds", "write_seconds", "check_seconds", "peak_mb")
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    + "".join(f'<Choice value="class {place}"/>' for place in range(10))
    + "</Choices></View>"
)


class Timed(StudioClient):
    """A client that notes how long Label Studio kept an export waiting."""

    waited = 0.0

    def project(self, project_id: int) -> Project:
        """Return the project as `StudioClient.project` does, timed."""
        begun = time.monotonic()
        try:
            return super().project(project_id)
        finally:
            self.waited += time.monotonic() - begun

    def labeled(self, project_id: int) -> Iterator[LabeledTask]:
        """Yield tasks as `StudioClient.labeled` does, timed up to each task's arrival."""
        tasks = super().labeled(project_id)
        while True:
            begun = time.monotonic()
            task = next(tasks, None)
            self.waited += time.monotonic() - begun
            if task is None:
                return
            yield task


def fill(client: StudioClient, folder: Path, rows: int) -> tuple[int, float]:
    """Make a project of `rows` tasks with 1,000 of them labeled; return its number and the seconds of the import."""
    pictures = folder / "documents" / "pictures" / str(rows)
    pictures.mkdir(parents=True)
    tasks: list[dict[str, Any]] = []
    for row in range(rows):
        (pictures / f"{row}.png").touch()
        tasks.append({"data": {"image": f"/data/local-files/?d=pictures/{rows}/{row}.png"}})
        if row % (rows // LABELED) == 0:
            value = {"choices": [f"class {row // (rows // LABELED) % 10}"]}
            result = [{"from_name": "choice", "to_name": "image", "type": "choices", "value": value}]
            tasks[-1]["annotations"] = [{"result": result}]
    body = {"title": f"scale {rows}", "label_config": CONFIG}
    project = int(client.http.json("POST", "/api/projects/", body=body)["id"])
    begun = time.monotonic()
    for start in range(0, rows, PER_IMPORT):
        client.http.json("POST", f"/api/projects/{project}/import", body=tasks[start : start + PER_IMPORT])
    return project, time.monotonic() - begun


def prepare(client: StudioClient, folder: Path, project_id: int) -> str:
    """Write the artifacts of a done run over all tasks of the project; return the run's number."""
    import numpy as np

    from usl_backend.instances import Instance, Pool, Queue
    from usl_backend.runs import RunStore
    from usl_backend.runs.inventory import Inventory
    from usl_backend.runs.published import Published
    from usl_backend.runs.summary import PoolNote, ProjectNote, Summary

    project = client.project(project_id)
    tasks = list(client.tasks(project_id, data_key="image", only_unlabeled=False))
    store = RunStore(folder / "runs")
    run = store.claim(store.create(project=project_id, settings={}).id)
    files = store.files(run.id)
    files.write_instances(
        [Instance(task.id, "image", str(task.data["image"])) for task in tasks], Inventory()
    )
    ids = np.array([task.id for task in tasks], dtype=np.int64)
    files.write_pool(Pool(ids, np.zeros((len(ids), 64), dtype=np.float32)), ["00" * 32] * len(ids))
    files.write_published(Published(Queue.of(ids[:40].tolist())))
    summary = Summary(
        project=ProjectNote(project_id, project.key, project.title, "image"), pool=PoolNote(tasks=len(ids))
    )
    store.finish(run.id, summary, "00" * 32, {})
    store.close()
    return run.id


def cell(folder: Path, name: str, run_id: str, url: str) -> dict[str, Any]:
    """Run one export in this process."""
    from usl_backend.exports import FORMATS, check_export, export_split
    from usl_backend.exports.media import files_of
    from usl_backend.exports.project import project_split
    from usl_backend.runs import RunStore
    from usl_backend.runs.inventory import Inventory
    from usl_backend.settings import HostSettings
    from usl_backend.sources.media import MediaAccess

    documents = folder / "documents"
    host = HostSettings.load({"label_studio_local_files_document_root": documents}, environ={})
    store = RunStore(folder / "runs")
    with Timed(url, TOKEN, documents_root=documents) as client:
        begun = time.monotonic()
        split = project_split(store, store.get(run_id), client=client)
        laid = time.monotonic()
        with MediaAccess.of_project(host, client).open(client) as media:
            files = None if FORMATS[name].media == "none" else files_of(media, Inventory())
            target = export_split(split, folder / "out" / f"{run_id}-{name}", format=name, fetch=files)
        written = time.monotonic()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    checked = check_export(target)
    store.close()
    rows = checked.labeled + checked.unlabeled
    assert checked.labeled == LABELED
    assert set(checked.per_class.values()) == {LABELED // 10}
    return {
        "format": name,
        "rows": rows,
        "studio_seconds": round(client.waited, 2),
        "split_seconds": round(laid - begun - client.waited, 2),
        "write_seconds": round(written - laid, 2),
        "check_seconds": round(time.monotonic() - written, 2),
        "peak_mb": round(peak),
    }


def measure(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    """Run every format at both sizes."""
    done: list[dict[str, Any]] = []
    server = LabelStudioServer(
        folder / "studio",
        username="bench@example.com",
        password="bench-password",
        token=TOKEN,
        documents_root=folder / "documents",
    )
    with server, StudioClient(server.url, TOKEN) as client:
        for rows in SIZES:
            project, seconds = fill(client, folder, rows)
            print(f"{rows:,} tasks imported into Label Studio in {seconds:.0f} s", flush=True)
            run = prepare(client, folder, project)
            print(
                f"{'format':12}{'rows':>8}" + "".join(f"{c.replace('_seconds', ' s'):>10}" for c in COLUMNS)
            )
            for name in names:
                command = [sys.executable, __file__, "--cell", str(folder), name, run, server.url]
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                done.append(json.loads(told.stdout))
                assert done[-1]["rows"] == rows
                print(f"{name:12}{rows:8}" + "".join(f"{done[-1][key]:10}" for key in COLUMNS), flush=True)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--formats", nargs="*")
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        folder, name, run, url = options.cell
        print(json.dumps(cell(Path(folder), name, run, url)))
        return
    from usl_backend.exports import FORMATS

    names = options.formats or list(FORMATS)
    with tempfile.TemporaryDirectory() as folder:
        done = measure(Path(folder), names)
    for name in names:
        small, large = (entry for entry in done if entry["format"] == name)
        seconds = sum(large[key] for key in COLUMNS[:3])
        grown = large["peak_mb"] - small["peak_mb"]
        listed = "list format" if FORMATS[name].media == "none" else "files linked"
        print(f"{name:12} {SIZES[1]:,} rows in {seconds:.1f} s, {grown:+d} MB over {SIZES[0]:,} ({listed})")
        if FORMATS[name].media == "none" and seconds > LIMIT_SECONDS:
            print(f"{name:12} takes longer than {LIMIT_SECONDS} s")
        if grown >= LIMIT_MB:
            print(f"{name:12} grows by {LIMIT_MB} MB or more")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(done, indent=1))


if __name__ == "__main__":
    main()

"""Time and memory of exports of 10,000 and 100,000 rows, of which 1,000 are labeled. Label Studio is played.

    python benchmarks/export_scale.py

Every cell is a process of its own: reading the run and laying the labels over it, writing the format; then reading
it back, which a user need not. Formats that need files get empty pictures on the same disk, linked. Label Studio's
own export call is not in here.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LABELED = 1_000
SIZES = (10_000, 100_000)
RESULTS = Path(__file__).parent / "results" / "export_scale.json"
CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    + "".join(f'<Choice value="class {place}"/>' for place in range(10))
    + "</Choices></View>"
)


class Played:
    """What the export asks of a StudioClient."""

    def __init__(self, rows: int, sources: list[str]) -> None:
        self.rows, self.sources = rows, sources

    def project(self, _: int) -> Any:
        """As `StudioClient.project`."""
        return SimpleNamespace(id=1, key="1.1", label_config=CONFIG, task_number=self.rows, title="scale")

    def labeled(self, _: int) -> Any:
        """As `StudioClient.labeled`."""
        from usl_backend.studio.client import LabeledTask

        for task in range(0, self.rows, self.rows // LABELED):
            value = {"choices": [f"class {task % 10}"]}
            result = [{"from_name": "choice", "to_name": "image", "type": "choices", "value": value}]
            annotation = {"id": task, "completed_by": 1, "result": result, "was_cancelled": False}
            yield LabeledTask(task, {"image": self.sources[task]}, (annotation,))


def prepare(folder: Path, rows: int, *, files: bool) -> list[str]:
    """Artifacts of a done run; sources of its tasks."""
    import numpy as np

    from usl_backend.instances import Instance, Pool
    from usl_backend.runs import RunFiles

    pictures = folder / "pictures"
    pictures.mkdir()
    sources = [str(pictures / f"{task}.png") for task in range(rows)]
    for source in sources if files else ():
        Path(source).touch()
    run = RunFiles(folder / "run")
    run.write_instances(
        [Instance(task, "image", source) for task, source in enumerate(sources)], {"control": []}
    )
    pool = Pool(np.arange(rows, dtype=np.int64), np.zeros((rows, 64), dtype=np.float32))
    run.write_pool(pool, ["00" * 32] * rows)
    queue = [{"task": task, "rank": task, "role": "pick"} for task in range(40)]
    run.write_published({"queue": queue})
    return sources


def cell(folder: Path, name: str, rows: int) -> dict[str, Any]:
    """One export in this process."""
    from usl_backend.exports import check_export, export_split, local_file
    from usl_backend.exports.formats import FORMATS
    from usl_backend.exports.project import project_split
    from usl_backend.runs import RunFiles, RunState

    sources = [str(folder / "pictures" / f"{task}.png") for task in range(rows)]
    summary = {
        "project": {"id": 1, "key": "1.1", "title": "scale", "data_key": "image", "classes": []},
        "pool": {"tasks": rows},
        "method": {"name": "usl", "preset": None, "parameters": {}},
        "encoder": {"key": "none"},
        "seed": 0,
        "skipped": {"count": 0},
    }
    run: Any = SimpleNamespace(
        id="1-1",
        project=1,
        state=RunState.DONE,
        dry_run=False,
        summary=summary,
        settings={},
        versions={},
        pool_digest="",
    )
    store: Any = SimpleNamespace(files=lambda _: RunFiles(folder / "run"))
    client: Any = Played(rows, sources)
    begun = time.monotonic()
    split = project_split(store, run, client=client)
    read = time.monotonic()
    with_files = FORMATS[name].media != "none"
    target = export_split(
        split, folder / f"out-{name}", format=name, fetch=local_file if with_files else None
    )
    written = time.monotonic()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    checked = check_export(target)
    assert (checked.labeled, checked.unlabeled) == (LABELED, rows - LABELED)
    return {
        "format": name,
        "rows": rows,
        "split_seconds": round(read - begun, 2),
        "write_seconds": round(written - read, 2),
        "check_seconds": round(time.monotonic() - written, 2),
        "peak_mb": round(peak),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--formats", nargs="*")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        folder, name, rows = options.cell
        print(json.dumps(cell(Path(folder), name, int(rows))))
        return
    from usl_backend.exports.formats import FORMATS

    names = options.formats or list(FORMATS)
    done: list[dict[str, Any]] = []
    print(f"{'format':12}{'rows':>8}{'split s':>9}{'write s':>9}{'check s':>9}{'peak MB':>9}")
    for rows in SIZES:
        with tempfile.TemporaryDirectory() as place:
            prepare(Path(place), rows, files=any(FORMATS[name].media != "none" for name in names))
            for name in names:
                told = subprocess.run(
                    [sys.executable, __file__, "--cell", place, name, str(rows)],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                done.append(json.loads(told.stdout))
                columns = ("split_seconds", "write_seconds", "check_seconds", "peak_mb")
                print(f"{name:12}{rows:8}" + "".join(f"{done[-1][key]:9}" for key in columns), flush=True)
    for name in names:
        small, large = (entry["peak_mb"] for entry in done if entry["format"] == name)
        print(f"{name}: {large - small:+d} MB from {SIZES[0]:,} to {SIZES[1]:,} rows")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(done, indent=1))


if __name__ == "__main__":
    main()

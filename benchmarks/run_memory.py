"""CPU seconds and peak memory of the process of a run that embeds pictures and chooses from them.

The pictures are the demo's, as JPEG files of 224 px; memory is the peak of the whole process (VmHWM), CPU time that of
all its threads. With --against, a folder that holds another version of the package, both run in turn.

    python benchmarks/run_memory.py --engines torch openvino --against FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from embedding import demo_pictures


def run(pictures: Path, package: Path, more: list[str]) -> dict[str, float]:
    """Choose 40 of the pictures in a process of its own; return its CPU seconds and peak memory in megabytes."""
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "usl_backend", "select", str(pictures), "--budget", "40", *more]
        command += ["-o", f"{data}/picks.csv"]
        environment = os.environ | {"PYTHONPATH": str(package), "MODEL_DIR": f"{data}/runs"}
        with (Path(data) / "said.txt").open("w+b") as said:
            process = subprocess.Popen(
                command, env=environment, cwd=data, stdout=said, stderr=subprocess.STDOUT
            )
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit((Path(data) / "said.txt").read_text(encoding="utf-8", errors="replace"))
    return {
        "cpu": round(used.ru_utime + used.ru_stime, 2),
        "peak_megabytes": round(used.ru_maxrss * 1024 / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["torch"], choices=("torch", "openvino"))
    parser.add_argument("--against", type=Path, help="a folder that holds another version of the package")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    versions: dict[str, tuple[Path, list[str]]] = {
        engine: (here, ["--engine", engine]) for engine in options.engines
    }
    if options.against:
        versions["other"] = (options.against.resolve(), [])
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        pictures = demo_pictures(Path(folder), options.pictures)
        for _ in range(options.rounds):
            for version, (package, more) in versions.items():
                one = {"version": version} | run(pictures, package, more)
                found.append(one)
                print(f"{version:9} {one['cpu']:6.1f} CPU s {one['peak_megabytes']:5} MB", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

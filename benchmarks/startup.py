"""CPU seconds and memory of starting the command line and the server.

Each command has a process of its own, in an empty data directory; of the rounds the least CPU time and the median of
the peak memory (VmHWM, as the system counts it for ended children) are told. The server is stopped as soon as it
answers. With --against, a folder that holds another version of the package, both are started in turn.

    python benchmarks/startup.py --against FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMMANDS = {
    "--version": ("--version",),
    "--help": ("--help",),
    "status": ("status",),
    "select --help": ("select", "--help"),
    "serve, until it listens": ("serve", "--host", "127.0.0.1", "--port", "0"),
}


def start(arguments: tuple[str, ...], package: Path, data: Path) -> dict[str, float]:
    """Run a command in a process of its own; return its CPU seconds and the peak of its memory in megabytes."""
    environment = os.environ | {
        "PYTHONPATH": str(package), "MODEL_DIR": str(data), "LABEL_STUDIO_API_KEY": "x" * 40, "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "usl_backend", *arguments]
    with (data / "said.txt").open("w+b") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT, cwd=data)
        while arguments[0] == "serve" and b"listening" not in (data / "said.txt").read_bytes():
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            if arguments[0] == "serve":
                process.terminate()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode and arguments[0] != "serve":
            raise SystemExit(
                f"{' '.join(command)} failed:\n{(data / 'said.txt').read_text(errors='replace')}"
            )
    return {"cpu": used.ru_utime + used.ru_stime, "megabytes": used.ru_maxrss / 1000}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--against", type=Path, help="a folder that holds another version of the package")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    packages = {"this": Path(__file__).resolve().parents[1]}
    if options.against:
        packages["other"] = options.against
    told: list[dict[str, Any]] = []
    for name, arguments in COMMANDS.items():
        found: dict[str, list[dict[str, float]]] = {version: [] for version in packages}
        for _ in range(options.rounds + 1):
            for version, package in packages.items():
                with tempfile.TemporaryDirectory() as data:
                    found[version].append(start(arguments, package, Path(data)))
        for version, rounds in found.items():
            # the first one compiles and fills the system's cache of files
            cpu = min(one["cpu"] for one in rounds[1:])
            memory = statistics.median(one["megabytes"] for one in rounds[1:])
            told.append({"command": name, "version": version, "cpu": cpu, "megabytes": memory})
            print(f"{name:24} {version:5} {cpu:6.3f} CPU s {memory:5.0f} MB", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

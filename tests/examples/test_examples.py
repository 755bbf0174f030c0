"""Every example runs as its README says, with --smoke; what it prints is looked at, not its speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from live_studio import LiveStudio

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def run(script: str, *words: str, **environment: str) -> str:
    path = EXAMPLES / script
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("USL_", "LABEL_STUDIO_", "MODEL_DIR"))}
    done = subprocess.run(
        [sys.executable, path.name, *words],
        cwd=path.parent,
        env={**clean, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_api__finds_more_kinds_than_a_random_draw(tmp_path: Path) -> None:
    told = run("python_api.py", "--smoke", "--out", str(tmp_path / "split"))
    chosen, drawn = (int(told.split(f"{name}: ")[1].split(" ")[0]) for name in ("chosen", "random"))
    assert chosen == 8 > drawn
    assert f"{tmp_path / 'split'}: 16 labeled and 484 unlabeled rows" in told
    manifest = json.loads((tmp_path / "split" / "manifest.json").read_text())
    assert manifest["contents"]["labeled"] == 16
    assert manifest["usage"]["num_labeled"] == 16


@pytest.mark.timeout(600)
def test_fixmatch__smoke() -> None:
    told = run("fixmatch/fixmatch.py", "--smoke")
    assert "90 labeled and 60 unlabeled images, 10 classes" in told
    assert told.count("on 100 test images") == 3
    # Of ten classes; a few steps on 90 labels are enough to tell shoes from shirts.
    assert float(told.split("FixMatch: accuracy ")[1].split()[0]) > 0.2


@pytest.mark.live
@pytest.mark.timeout(600)
def test_images__from_a_folder_to_a_checked_split(label_studio: LiveStudio) -> None:
    told = run(
        "images/import_folder.py",
        "--smoke",
        LABEL_STUDIO_URL=label_studio.url,
        LABEL_STUDIO_API_KEY=label_studio.token,
    )
    contents = json.loads(told.splitlines()[-1])
    assert contents["labeled"] == 10
    assert contents["unlabeled"] == 50
    assert sum(contents["per_class"].values()) == 10


@pytest.mark.live
@pytest.mark.timeout(600)
def test_text__from_a_table_to_a_checked_split(label_studio: LiveStudio) -> None:
    told = run(
        "text/import_texts.py",
        "--smoke",
        LABEL_STUDIO_URL=label_studio.url,
        LABEL_STUDIO_API_KEY=label_studio.token,
    )
    assert "chose 10 of 80 unlabeled tasks" in told
    assert "1 of 81 unlabeled tasks could not be read" in told
    contents = json.loads(told.splitlines()[-1])
    assert contents["labeled"] == 10
    assert sum(contents["per_class"].values()) == 10


def test_examples__every_script_is_tested() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    scripts = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.py")}
    assert scripts == {
        "python_api.py",
        "fixmatch/fixmatch.py",
        "fixmatch/prepare.py",
        "images/import_folder.py",
        "text/import_texts.py",
    }
    assert all(script in here for script in scripts)

"""The form of findings/: what can be seen without running a script, which takes minutes and a package index."""

import os
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "findings"
SCRIPTS = sorted(FOLDER.glob("*.sh"))


def test_findings__readme_lists_every_script_and_no_other() -> None:
    listed = re.findall(
        r"^\| `([\w-]+\.sh)` \|", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert listed == [script.name for script in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_findings__script_has_the_form(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "set -euo pipefail" in text
    assert "\n# Seen with " in text
    assert 'rm -rf "$work"' in text
    assert text.endswith('echo "as described"\n')
    assert not re.search(r"usl.?backend", text)
    installs = re.findall(r"pip install -q (.+)$", text, re.MULTILINE)
    assert installs
    assert all("==" in package for line in installs for package in line.split())

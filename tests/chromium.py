"""Find a browser for the browser tests: any Chromium, Chrome or build of Playwright. Needs the standard library only.

`python tests/chromium.py` prints its path, or what brings one.
"""

import os
import shutil
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BUILDS = ("chromium-*/chrome-*/chrome", "chromium_headless_shell-*/chrome-*/*headless*shell")
VARIABLE = "TEST_BROWSER"
REMEDY = (
    "apt-get install chromium"
    if Path("/usr/bin/apt-get").exists()
    else "playwright install --with-deps chromium"
)


def find_chromium() -> Path | None:
    """The browser that TEST_BROWSER names, else one in PATH, else the newest that `playwright install` brought."""
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise FileNotFoundError(f"{VARIABLE} is {named}, which is no program; name a browser or unset it")
        return Path(found)
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    kept = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    folder = Path(kept) if kept else Path.home() / ".cache" / "ms-playwright"
    for build in BUILDS:
        programs = [path for path in folder.glob(build) if os.access(path, os.X_OK)]
        if programs:
            return max(programs, key=_revision)
    return None


def _revision(program: Path) -> int:
    """Number of a build, from the name of its folder (`chromium-1187`)."""
    number = program.parent.parent.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


if __name__ == "__main__":
    browser = find_chromium()
    print(browser or f"no Chromium or Chrome was found; this brings one: {REMEDY}")  # noqa: T201
    sys.exit(browser is None)

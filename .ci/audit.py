"""Ask pip-audit for known vulnerabilities of what is installed here; fail where an update would mend one.

Where PyPI's vulnerability service cannot be asked, or does not answer in time, that is one line and no failure: it says
nothing about the packages.
"""

import json
import subprocess
import sys

PATIENCE = 120.0
"""Seconds; one request per package."""
COMMAND = [
    sys.executable,
    "-m",
    "pip_audit",
    "--skip-editable",
    "--progress-spinner",
    "off",
    "--format",
    "json",
]


def main() -> int:
    """Exit code: 1 where a vulnerability has an update that mends it."""
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=PATIENCE, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("pip-audit: PyPI's vulnerability service cannot be asked from here; nothing was audited")
        return 0
    asked = [package for package in packages if "skip_reason" not in package]
    print(
        f"pip-audit: {len(asked)} of {len(packages)} packages are known to PyPI's vulnerability service here"
    )
    mendable = 0
    for package in asked:
        for found in package["vulns"]:
            mends = ", ".join(found["fix_versions"])
            mendable += bool(mends)
            print(
                f"{package['name']} {package['version']}: {found['id']}, mended in {mends or 'no release yet'}"
            )
    return int(mendable > 0)


if __name__ == "__main__":
    sys.exit(main())

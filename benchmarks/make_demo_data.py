"""Cut the demo's pictures and texts from their sources; run once, its result is committed.

Source: Debian's package dataset-fashion-mnist, training set. The subset is a uniform draw without replacement,
not stratified, so that it is as uneven as what a team would upload. The texts are the one-line descriptions of
packages in Debian's main archive, as apt knows them on a Debian machine (`apt-get update` first), with their section
as class: one package of each source, no transitional ones, drawn in the same way.

    python benchmarks/make_demo_data.py pictures
    python benchmarks/make_demo_data.py texts
"""

from __future__ import annotations

import argparse
import csv
import gzip
import re
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SEED = 20_170_825
"""The day Fashion-MNIST was published; any number would do."""


def read(path: Path, header: int) -> NDArray[np.uint8]:
    """Read the bytes of an IDX file behind its header."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header)


SECTIONS = ("database", "electronics", "fonts", "games", "graphics", "mail", "science", "sound")
DATA = Path(__file__).parent.parent / "usl_backend" / "demo" / "data"


def pictures(source: Path, count: int) -> None:
    """Write `fashion-mnist.npz`."""
    labels = read(source / "train-labels-idx1-ubyte.gz", 8)
    images = read(source / "train-images-idx3-ubyte.gz", 16).reshape(len(labels), 28, 28)
    rows = np.sort(np.random.default_rng(SEED).choice(len(labels), count, replace=False))
    out = DATA / "fashion-mnist.npz"
    np.savez_compressed(out, images=images[rows], labels=labels[rows], rows=rows.astype(np.int32))
    print(f"{out}: {len(rows)} pictures, {out.stat().st_size} bytes, per class {np.bincount(labels[rows])}")


def texts(count: int) -> None:
    """Write `debian-packages.csv`."""
    told = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    found: dict[str, tuple[str, str, str]] = {}
    seen: set[str] = set()
    for stanza in sorted(told.split("\n\n")):
        fields: dict[str, str] = dict(
            re.findall(r"^(Package|Source|Section|Description(?:-en)?): (.*)$", stanza, re.M)
        )
        name, section = fields.get("Package", ""), fields.get("Section", "")
        text = fields.get("Description", fields.get("Description-en", ""))
        source = fields.get("Source", name).split(" ")[0]
        dull = re.search(r"transition|dummy|metapackage|debug|\bdata (files|for)\b|document", text, re.I)
        if section in SECTIONS and len(text) >= 20 and not dull and source not in found and text not in seen:
            found[source] = (name, section, text)
            seen.add(text)
    names = sorted(found)
    rows = np.sort(np.random.default_rng(SEED).choice(len(names), min(count, len(names)), replace=False))
    out = DATA / "debian-packages.csv"
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("package", "section", "description"))
        writer.writerows(found[names[row]] for row in rows)
    sections = [found[names[row]][1] for row in rows]
    print(f"{out}: {len(rows)} of {len(names)} texts, " + str({one: sections.count(one) for one in SECTIONS}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("pictures", "texts"))
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--count", type=int, default=1_200)
    arguments = parser.parse_args()
    if arguments.what == "pictures":
        pictures(arguments.source, arguments.count)
    else:
        texts(arguments.count)


if __name__ == "__main__":
    main()

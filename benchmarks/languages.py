"""Texts in several languages: which are told as English, what picks are worth under MiniLM and e5-small, one meaning.

The texts are the one-line descriptions of Debian packages in the translations of Debian's mirror, their classes the
packages' sections. FOLDER holds `Packages.xz` (dists/bookworm/main/binary-amd64 of a mirror) and `Translation-LL.bz2`
(dists/bookworm/main/i18n) for each of the languages.

    python benchmarks/languages.py FOLDER --json languages.json
    python benchmarks/languages.py FOLDER --encoders
"""

from __future__ import annotations

import argparse
import bz2
import json
import lzma
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from make_demo_data import SECTIONS
from numpy.typing import NDArray

from usl_backend.encoders import load as load_encoder
from usl_backend.encoders.languages import languages_of
from usl_backend.evaluation import nearest_neighbor_accuracy
from usl_backend.selection import USL

LANGUAGES = ("de", "fr", "it", "ja", "ko", "pl", "pt_BR", "ru")
IN_COMMON = ("en", "de", "fr", "it", "ja", "pt_BR", "ru")
"""Languages of the packages that are looked at in all of them."""
ENCODERS = ("minilm", "e5-small")
POOL, COMMON = 400, 120
PER_CLASS = (1, 2, 4, 10)


@dataclass(frozen=True)
class Package:
    """A package: its section, and its description by language."""

    section: str
    texts: dict[str, str]


def packages(folder: Path) -> list[Package]:
    """Read one package of each source in the sections, in an order drawn once."""
    found: dict[str, Package] = {}
    sources: set[str] = set()
    for stanza in lzma.decompress((folder / "Packages.xz").read_bytes()).decode().split("\n\n"):
        fields: dict[str, str] = dict(
            re.findall(r"^(Package|Source|Section|Description|Description-md5): (.*)$", stanza, re.M)
        )
        section, source = fields.get("Section", ""), fields.get("Source", fields.get("Package", ""))
        if section in SECTIONS and source.split(" ")[0] not in sources:
            sources.add(source.split(" ")[0])
            found[fields["Description-md5"]] = Package(section, {"en": fields["Description"]})
    for language in LANGUAGES:
        translated = bz2.decompress((folder / f"Translation-{language}.bz2").read_bytes()).decode()
        for digest, text in re.findall(r"^Description-md5: (\w+)\nDescription-\w+: (.*)$", translated, re.M):
            if digest in found and text != found[digest].texts["en"]:
                found[digest].texts[language] = text
    kept = list(found.values())
    return [kept[place] for place in np.random.default_rng(0).permutation(len(kept))]


def embedded(texts: Sequence[str], encoder: str) -> tuple[dict[str, NDArray[np.float32]], float]:
    """Embed distinct texts; return their rows, and texts per CPU second."""
    loaded, distinct = load_encoder(encoder), list(dict.fromkeys(texts))
    loaded.encode(distinct[:64])
    begun = time.process_time()
    rows = np.concatenate([loaded.encode(distinct[at : at + 512]) for at in range(0, len(distinct), 512)])
    speed = len(distinct) / (time.process_time() - begun)
    return dict(zip(distinct, rows, strict=True)), speed


def worth(rows: NDArray[np.float32], classes: NDArray[np.int64], seeds: int) -> dict[str, list[float]]:
    """Compute 1-NN accuracy on the pool, in percent, of picks and of random rows at each budget."""
    centred = rows - rows.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    count = len(np.unique(classes))

    def accuracy(picks: NDArray[np.int64]) -> float:
        rest = np.setdiff1d(np.arange(len(rows)), picks)
        return 100 * nearest_neighbor_accuracy(
            centred[picks], classes=classes[picks], test_rows=centred[rest], test_classes=classes[rest]
        )

    def mean(chosen: Sequence[NDArray[np.int64]]) -> float:
        return float(np.mean([accuracy(picks) for picks in chosen]))

    shuffled = [np.random.default_rng(seed).permutation(len(rows)) for seed in range(4 * seeds)]
    return {
        "picks": [
            mean([USL().select(rows, budget=m * count, rng=seed).indices for seed in range(seeds)])
            for m in PER_CLASS
        ],
        "random": [mean([order[: m * count] for order in shuffled]) for m in PER_CLASS],
    }


def told_english(texts: Sequence[str]) -> tuple[float, float, float]:
    """Return the percent of texts told as English, one by one and in groups as runs look at them, and CPU ms a text."""
    begun = time.process_time()
    alone = [one for one in (languages_of([text]) for text in texts) if one is not None]
    spent = time.process_time() - begun
    grouped = languages_of(texts)
    if grouped is None:
        raise SystemExit('the detector is not installed: pip install "usl-backend[text]"')
    return (
        100 * sum(one.english for one in alone) / len(alone),
        100 * grouped.english / grouped.texts,
        1000 * spent / len(texts),
    )


def together(rows: dict[str, NDArray[np.float32]]) -> dict[str, float]:
    """Tell how far texts of one meaning, in the same place of each language's rows, lie together."""
    languages = list(rows)
    found = []
    for one in languages:
        for other in languages:
            if one != other:
                nearest = (rows[one] @ rows[other].T).argmax(axis=1)
                found.append(float(np.mean(nearest == np.arange(len(nearest)))))
    joined = np.concatenate(list(rows.values()))
    count = len(joined) // len(languages)
    picks = USL().select(joined, budget=count // 2, rng=0).indices
    return {
        "nearest text of another language has the same meaning, %": 100 * float(np.mean(found)),
        "picks whose meaning another pick has, %": 100 * (1 - len(np.unique(picks % count)) / len(picks)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoders", nargs="*", default=ENCODERS, help="none: only the detector")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    held = packages(arguments.folder)
    pools = {
        language: [one for one in held if language in one.texts][:POOL] for language in ("en", *LANGUAGES)
    }
    common = [one for one in held if all(language in one.texts for language in IN_COMMON)][:COMMON]
    texts = [one.texts[language] for language, pool in pools.items() for one in pool]
    texts += [one.texts[language] for language in IN_COMMON for one in common]
    results: dict[str, Any] = {"texts": len(texts), "common": len(common), "told as English": {}}
    print("told as English, %: one by one, in groups; CPU ms a text")
    for language, pool in pools.items():
        told = told_english([one.texts[language] for one in pool])
        results["told as English"][language] = told
        print(f"| {language} | {len(pool)} | {told[0]:.1f} | {told[1]:.1f} | {told[2]:.2f} |", flush=True)
    for encoder in arguments.encoders:
        rows, speed = embedded(texts, encoder)
        print(f"{encoder}: {speed:.0f} texts per CPU second", flush=True)
        found: dict[str, Any] = {}
        for language, pool in pools.items():
            classes = np.array([SECTIONS.index(one.section) for one in pool])
            found[language] = worth(
                np.stack([rows[one.texts[language]] for one in pool]), classes, arguments.seeds
            )
        for name in ("picks", "random"):
            means = np.mean([found[language][name] for language in LANGUAGES], axis=0)
            print(f"| {encoder} | {name} | " + " | ".join(f"{value:.1f}" for value in means) + " |", end="")
            print(" English: " + " | ".join(f"{value:.1f}" for value in found["en"][name]))
        near = together({key: np.stack([rows[one.texts[key]] for one in common]) for key in IN_COMMON})
        print({name: round(value, 1) for name, value in near.items()}, flush=True)
        results[encoder] = {"texts per CPU second": speed, "accuracy": found, "together": near}
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

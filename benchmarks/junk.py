"""Pools with a fifth of junk: how much of it is found, how much good beside it, and what keeping it out changes.

Junk is made up: white noise, one shade, faint noise, blurred blobs; noise in squares of 1 to 7 of 28 pixels; noise of
8 x 8 pixels. What is found is what `exclude_outliers` keeps out. A row counts as far from everything where the distance
to its 20th neighbor is more than 3.5 robust standard deviations above the median.

    python benchmarks/junk.py --data-dir FOLDER
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from selection_data import (
    FeatureSet,
    debian_texts,
    embed_pictures,
    fashion_noise,
    fashion_pictures,
    load,
    png,
    section_texts,
)
from selection_quality import Trial, accuracy, make_trial

from usl_backend.demo import dataset
from usl_backend.media import MediaLimits, decode_image, shorter_side
from usl_backend.outliers import find_outliers, traits_of_picture, traits_of_text
from usl_backend.selection import USL, nearest_neighbors
from usl_backend.selection.steering import NOTHING, select_inside

PER_CLASS = (1, 2, 4, 10)
FAR = 3.5
POOL = 2_000
SIZE = 128
TEXTS = ("12345", "-", "1.2.3", "n/a", "ok", "test", "see above", "lorem ipsum dolor")
KINDS = ("white noise", "one shade", "faint noise", "blobs")


@dataclass(frozen=True)
class Pictures:
    """Files with their rows and classes; the last class is junk, `kinds` says of which kind ("" for good ones)."""

    name: str
    files: Sequence[bytes]
    rows: NDArray[np.float32]
    classes: NDArray[np.int64]
    kinds: Sequence[str]


def junk(number: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Make a grey picture of 28 x 28 pixels without content, of one of four kinds by its number."""
    noise = rng.integers(0, 256, (28, 28), dtype=np.uint8)
    faint = rng.normal(rng.integers(30, 220), rng.integers(2, 60), (28, 28)).clip(0, 255).astype(np.uint8)
    blobs = np.asarray(Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).resize((28, 28)))
    return (noise, np.full_like(noise, rng.integers(0, 256)), faint, blobs)[number % 4]


def demo_junk(options: argparse.Namespace) -> Pictures:
    """Put 300 pictures of four kinds to the demo's 1,200."""
    rng, held = np.random.default_rng(0), dataset.load()
    count = len(held.images) // 4
    good = load("fashion-demo-lite0", cache=options.cache, data_dir=None)
    files = [png(junk(number, rng)) for number in range(count)]
    return Pictures(
        "demo, four kinds",
        [*map(png, held.images), *files],
        np.concatenate([good.rows, embed_pictures(files)]),
        np.concatenate([good.classes, np.full(count, 10)]),
        [""] * len(good.rows) + [KINDS[number % 4] for number in range(count)],
    )


def fashion_junk(options: argparse.Namespace) -> Pictures:
    """Take the set fashion-junk: 4,800 pictures and 1,200 of noise in squares."""
    held = load("fashion-junk", cache=options.cache, data_dir=None)
    pictures, _ = fashion_pictures()
    noise, grain = fashion_noise()
    kinds = [""] * 4800 + [f"noise, squares of {size}" for size in grain]
    return Pictures(
        "fashion-junk", [*map(png, pictures[:4800]), *map(png, noise)], held.rows, held.classes, kinds
    )


def digits_junk(options: argparse.Namespace) -> Pictures:
    """Take the set digits-junk as pictures of 8 x 8 pixels, embedded as such."""
    held = load("digits-junk", cache=options.cache, data_dir=None)
    files = [png((row.reshape(8, 8) * (255 / 16)).astype(np.uint8)) for row in held.rows]
    kinds = ["noise of 8 x 8 pixels" if one == 10 else "" for one in held.classes]
    return Pictures("digits-junk, as pictures", files, embed_pictures(files), held.classes, kinds)


def clothing(options: argparse.Namespace) -> Pictures:
    """Take photographs without junk."""
    held = load("clothing-lite0", cache=options.cache, data_dir=options.data_dir)
    with zipfile.ZipFile(options.data_dir / "clothing.zip") as archive:
        files = [archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".jpg")]
    return Pictures("clothing", files, held.rows, held.classes, [""] * len(files))


def measured(files: Sequence[bytes]) -> NDArray[np.float64]:
    """Measure pictures as a run does."""
    limits = MediaLimits()
    return np.array(
        [
            traits_of_picture(decode_image(one, size=SIZE, limits=limits), side=shorter_side(one))
            for one in files
        ]
    )


def far(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which rows are far from everything."""
    apart = np.sqrt(nearest_neighbors(rows, k=20).distances[:, -1])
    middle = np.median(apart)
    return np.asarray(apart - middle > FAR * 1.4826 * np.median(np.abs(apart - middle)))


def show_found(held: Pictures, traits: NDArray[np.float64], distant: NDArray[np.bool_]) -> Iterator[str]:
    """Yield a row per kind of picture: how many are found, by measurement and by distance."""
    flagged = np.zeros(len(held.files), bool)
    flagged[find_outliers(traits).rows] = True
    kinds = np.array([kind or "good pictures" for kind in held.kinds])
    for kind in dict.fromkeys(kinds.tolist()):
        here = kinds == kind
        yield (
            f"| {held.name} | {kind} | {here.sum():,} | {flagged[here].sum():,} ({100 * flagged[here].mean():.1f} %) "
            f"| {distant[here].sum():,} |"
        )


def chosen(trial: Trial, budget: int, seed: int, *, outliers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose rows by the default, without these outliers."""
    method = USL(projection=0, normalize=False)
    if not len(outliers):
        return method.select(trial.rows, budget, rng=seed, neighbors=trial.neighbors).indices
    return select_inside(
        lambda rows, *_: method.select(rows, budget, rng=seed),
        trial.rows,
        np.setdiff1d(np.arange(len(trial.rows)), outliers),
        labeled=NOTHING,
    ).indices


def show_picks(held: Pictures, traits: NDArray[np.float64], seeds: int) -> Iterator[str]:
    """Yield a row per budget: junk among the picks and accuracy, as it is and with outliers kept out."""
    has_junk = any(held.kinds)
    features = FeatureSet(held.name, held.rows, held.classes, len(held.rows), has_junk)
    count = int(held.classes.max()) + (not has_junk)
    found: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for seed in range(10, 10 + seeds):
        order = np.random.default_rng(1000 + seed).permutation(len(held.rows))
        size = min(POOL, int(0.7 * len(order)))
        inside = np.sort(order[:size])
        trial = make_trial(features, inside=inside, outside=np.sort(order[size : size + 3000]))
        outliers = find_outliers(traits[inside]).rows
        for each in PER_CLASS:
            for way in ("all", "kept out"):
                picks = chosen(trial, each * count, seed, outliers=outliers if way == "kept out" else NOTHING)
                spent = float(has_junk and (trial.classes[picks] == trial.count - 1).mean())
                found.setdefault((each, way), []).append(
                    (100 * spent, float(np.mean(accuracy(trial, picks))))
                )
    for each in PER_CLASS:
        plain, kept = (np.array(found[each, way]) for way in ("all", "kept out"))
        gain = kept[:, 1] - plain[:, 1]
        bought = f"{plain[:, 0].mean():.0f} % | {kept[:, 0].mean():.0f} %"
        right = f"{plain[:, 1].mean():.1f} | {kept[:, 1].mean():.1f}"
        error = gain.std(ddof=1) / len(gain) ** 0.5
        yield f"| {held.name} | {each} | {bought} | {right} | {gain.mean():+.1f} ± {error:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "usl-backend-benchmarks")
    parser.add_argument("--data-dir", type=Path, help="folder with clothing.zip, for photographs")
    options = parser.parse_args()
    makers: list[Callable[[argparse.Namespace], Pictures]] = [demo_junk, fashion_junk, digits_junk]
    if options.data_dir is not None:
        makers.append(clothing)
    held = [make(options) for make in makers]
    traits = [measured(one.files) for one in held]
    print("| set | pictures | number | found | far from everything |\n|---|---|---|---|---|")
    for one, numbers in zip(held, traits, strict=True):
        trial = make_trial(
            FeatureSet(one.name, one.rows, one.classes, len(one.rows)),
            inside=np.arange(len(one.rows)),
            outside=np.arange(1),
        )
        print("\n".join(show_found(one, numbers, far(trial.rows))), flush=True)
    for name, (texts, _) in (("debian", debian_texts()), ("sections", section_texts())):
        found = find_outliers(np.array([traits_of_text(one) for one in (*texts, *TEXTS)])).rows
        alarms = int((found < len(texts)).sum())
        print(f"| {name} | good texts | {len(texts):,} | {alarms} ({100 * alarms / len(texts):.1f} %) | |")
        print(f"| {name} | {', '.join(TEXTS)} | {len(TEXTS)} | {len(found) - alarms} | |")
    print("\n| set | per class | junk among the picks | kept out | accuracy | kept out | gain |")
    print("|---|---|---|---|---|---|---|")
    for one, numbers in zip(held, traits, strict=True):
        print("\n".join(show_picks(one, numbers, options.seeds)), flush=True)


if __name__ == "__main__":
    main()

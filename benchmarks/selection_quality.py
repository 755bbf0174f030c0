"""Quality of selections on real data: what labels on the picks are worth, method by method.

Every method selects from the same pools; a cell is a data set, a size of the pool and a budget, and there are as many
pools of a size as seeds. What counts most is the number of rows per pick, so tables are sorted by it. Accuracy, in
percent, is the mean of 1-NN, linear (both on rows outside the pool) and label propagation (on the pool's unlabeled).

    python benchmarks/selection_quality.py --pools 300 600 --seeds 10-13 --data-dir FOLDER --json quality.json
    python benchmarks/selection_quality.py --pools 2000 5000 --seeds 10-11 --data-dir FOLDER --json quality.json
    python benchmarks/selection_quality.py --pools 20000 --sets fashion-lite0 fashion-pixels --json large.json
    python benchmarks/selection_quality.py --show quality.json --markdown quality.md --plot quality.svg
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from medoids import swap_medoids
from numpy.typing import NDArray
from rivals import RIVALS
from selection_data import SETS, TUNING, FeatureSet, load
from selection_results import Results, plot

from usl_backend.evaluation import (
    class_spread,
    linear_accuracy,
    nearest_neighbor_accuracy,
    propagation_accuracy,
)
from usl_backend.selection import METHODS, USL, USLT, Neighbors, make, nearest_neighbors
from usl_backend.selection.rows.assignment import assign
from usl_backend.selection.rows.preparation import fit_projection

SUBSETS = 10
MOST_TESTED = 3000
"""Rows tested on, at most."""
POOLS = (300, 600, 2000, 5000)
PER_CLASS = (0.25, 0.5, 1.0, 2.0, 4.0, 10.0)
"""Labels per class that are bought, as long as they are 3 at least and half the pool at most."""
NESTED = ("maxherding", "facility-location", "k-center", "random")
"""Methods whose smaller selections are prefixes of larger ones: selected once per pool."""
BASELINES = ("random", "k-means", "typiclust", "maxherding", "facility-location")
VARIANTS: dict[str, dict[str, Any]] = {
    "usl": {},
    "usl, 20 neighbors": {"neighbors": 20},
}
"""Variant of USL -> its options; with 20 neighbors it is what the default was before `neighbors="auto"`."""
SWAPS = "usl, medoid swaps"
"""The picks of USL, swapped for better medoids of the rows: no method of the product."""
ABLATIONS: dict[str, dict[str, Any]] = {
    "usl-t": {},
    "usl-t, 20 neighbors": {"neighbors": 20},
    "usl-t, no training": {"epochs": 0},
    "usl-t, local off": {"local_weight": 0.0},
    "usl-t, global off": {"global_weight": 0.0},
    "usl-t, adjustment off": {"adjustment": 0.0, "reseed_floor": 0.0},
    "usl-t, start instances": {"head_start": "instances"},
    "usl-t, start random": {"head_start": "random"},
    "usl-t, 1 head": {"heads": 1},
    "usl-t, by confidence": {"pick_by": "confidence"},
    "usl-t, unsmoothed": {"smoothing": False},
    # The paper's clusters are ImageNet's; here there are as many as picks.
    "usl-t, paper-imagenet100": {"preset": "paper-imagenet100", "clusters": 0},
    "usl-t, the same at lr 1e-2": {"preset": "paper-imagenet100", "clusters": 0, "learning_rate": 1e-2},
}
"""Variant of USL-T -> its preset and options."""


@dataclass(frozen=True)
class Trial:
    """One pool: rows as every method sees them, and data to judge picks by."""

    rows: NDArray[np.float32]
    classes: NDArray[np.int64]
    test_rows: NDArray[np.float32]
    test_classes: NDArray[np.int64]
    count: int
    junk: bool

    @cached_property
    def neighbors(self) -> Neighbors:
        """Neighbors as the defaults search them."""
        return nearest_neighbors(self.rows, k=32)

    @cached_property
    def wide(self) -> Neighbors:
        """Neighbors as the paper's CIFAR settings search them."""
        return nearest_neighbors(self.rows, k=400, include_self=True)


def make_trial(held: FeatureSet, *, inside: NDArray[np.int64], outside: NDArray[np.int64]) -> Trial:
    """Centre, project to 128 and normalize by the pool alone; junk is not tested on."""
    if held.junk:
        outside = outside[held.classes[outside] < held.classes.max()]
    projection = fit_projection(held.rows[inside], dimensions=128)
    return Trial(
        projection.apply(held.rows[inside]), held.classes[inside], projection.apply(held.rows[outside]),
        held.classes[outside], int(held.classes.max()) + 1, held.junk,
    )  # fmt: skip


def draw(held: FeatureSet, *, seed: int, pool: int) -> Trial:
    """Draw a pool and its test rows: the same for all pools of a seed up to what is usually drawn from."""
    order = np.random.default_rng(1000 + seed).permutation(len(held.rows))
    tested, begin = min(MOST_TESTED, max(1500, pool)), max(held.pool, pool)
    return make_trial(held, inside=np.sort(order[:pool]), outside=np.sort(order[begin : begin + tested]))


def accuracy(trial: Trial, picks: NDArray[np.int64]) -> list[float]:
    """Compute 1-NN, linear and propagation accuracy of labels on the picks, in percent."""
    rows, classes = trial.rows[picks], trial.classes[picks]
    test, truth = trial.test_rows, trial.test_classes
    near = trial.neighbors
    graph = Neighbors(near.indices[:, :10], near.distances[:, :10], near.exact)
    wanted, scale = trial.classes, 1.0
    if trial.junk:
        # Rows that nobody asks for count as wrong, and are taken out of the share.
        junk = wanted == trial.count - 1
        wanted = np.where(junk, -2, wanted)
        rest = np.setdiff1d(np.arange(len(wanted)), picks)
        scale = 1.0 / (1.0 - float(junk[rest].mean()))
    return [
        100 * nearest_neighbor_accuracy(rows, classes=classes, test_rows=test, test_classes=truth),
        100 * linear_accuracy(rows, classes=classes, test_rows=test, test_classes=truth),
        100 * scale * propagation_accuracy(graph, picks=picks, classes=classes, truth=wanted),
    ]


def cell_purity(trial: Trial, picks: NDArray[np.int64]) -> float:
    """Return the percent of the pool in the majority class of its cell, the rows nearest to the same pick.

    No label on these picks can make 1-NN better than that on the pool, so it says how far classes follow the cells.
    """
    cells = assign(trial.rows, trial.rows[picks]).labels
    counts = np.zeros((len(picks), trial.count))
    np.add.at(counts, (cells, trial.classes), 1)
    return float(100 * counts.max(axis=1).sum() / len(cells))


def select(method: str, trial: Trial, budget: int, seed: int) -> NDArray[np.int64]:
    """Choose rows of the trial by a method; the oracle alone sees classes."""
    if method == "stratified (oracle)":
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(trial.rows))
        turns = np.empty(len(order), dtype=np.int64)
        for label in range(trial.count):
            places = np.flatnonzero(trial.classes[order] == label)
            turns[places] = np.arange(len(places))
        return order[np.argsort(turns, kind="stable")][:budget]
    if method.startswith("paper-"):
        selector = make("usl", preset=method)
        return selector.select(trial.rows, budget, rng=seed, neighbors=trial.wide).indices
    # The rows are projected already.
    if method == SWAPS:
        return swap_medoids(trial.rows, select("usl", trial, budget, seed))
    if method in ABLATIONS:
        uslt = USLT(**{"projection": 0} | ABLATIONS[method])
        return uslt.select(trial.rows, budget, rng=seed, neighbors=trial.neighbors).indices
    if method in VARIANTS:
        usl = USL(**{"projection": 0, "normalize": False} | VARIANTS[method])
        return usl.select(trial.rows, budget, rng=seed, neighbors=trial.neighbors).indices
    options: dict[str, Any] = {"projection": 0}
    if method == "probcover":
        options["classes"] = trial.count
    return (METHODS | RIVALS)[method](**options).select(trial.rows, budget, rng=seed).indices


def budgets(per_class: Sequence[float], *, count: int, rows: int) -> list[tuple[float, int]]:
    """List labels per class and picks of the cells that a pool has."""
    found = [(each, round(each * count)) for each in per_class]
    return [(each, budget) for each, budget in found if 3 <= budget <= rows // 2]


def sizes(pools: Sequence[int], *, most: int) -> list[int]:
    """List the pools that a set can fill, and all it has where a pool is larger by far than the next smaller one."""
    found = sorted(size for size in set(pools) if size <= most)
    if max(pools) > most and (not found or most > 1.3 * found[-1]):
        found.append(most)
    return found


def measure(
    options: argparse.Namespace,
    load_set: Callable[[str], FeatureSet],
    known: Sequence[dict[str, Any]],
) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of one set, pool, seed and method at a time, those known left out: one per budget."""
    done = {(one["set"], one["pool"], one["seed"], one["method"]) for one in known}
    for name in options.sets:
        held = load_set(name)
        for pool in sizes(options.pools, most=max(held.pool, len(held.rows) - MOST_TESTED)):
            for seed in options.seeds:
                left = [one for one in options.methods if (name, pool, seed, one) not in done]
                if not left:
                    continue
                began = time.process_time()
                trial = draw(held, seed=seed, pool=pool)
                for method in left:
                    place = {"set": name, "pool": pool, "seed": seed, "method": method}
                    yield measure_method(method, trial, place, options)
                print(f"{name} {pool} seed {seed}: {time.process_time() - began:.1f} CPU s", flush=True)


def measure_method(
    method: str, trial: Trial, place: dict[str, Any], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure one method on one pool at every budget."""
    wanted = budgets(options.per_class, count=trial.count, rows=len(trial.rows))
    seed = place["seed"]
    longest = None
    if method in NESTED and wanted:
        longest = select(method, trial, max(budget for _, budget in wanted), seed)
    records = []
    for each, budget in wanted:
        picks = longest[:budget] if longest is not None else select(method, trial, budget, seed)
        spread = class_spread(trial.classes[picks], classes=trial.count)
        record = place | {
            "rows": len(trial.rows), "per_class": each, "budget": budget, "accuracy": accuracy(trial, picks),
            "covered": spread.covered / trial.count, "evenness": spread.evenness,
            "purity": cell_purity(trial, picks), "junk": float((trial.classes[picks] == trial.count - 1).mean()),
        }  # fmt: skip
        if options.halves and method == "usl":
            half = max(1, budget // 2)
            record["half"] = accuracy(trial, picks[:half])
            record["fresh_half"] = accuracy(trial, select(method, trial, half, seed))
        records.append(record)
    return records


def stability(
    options: argparse.Namespace,
    load_set: Callable[[str], FeatureSet],
    known: Sequence[dict[str, Any]],
) -> Iterator[list[dict[str, Any]]]:
    """Yield the s.d. of the accuracy over random 80 % subsets of one pool, same seed, of usl and random, set by set."""
    done = {record["set"] for record in known}
    for name in options.sets:
        if name in done:
            continue
        held = load_set(name)
        whole = np.random.default_rng(99).permutation(len(held.rows))[: min(held.pool, max(options.pools))]
        outside = np.setdiff1d(np.arange(len(held.rows)), whole)[:3000]
        found: dict[tuple[str, float], list[float]] = {}
        for subset in range(SUBSETS):
            part = np.random.default_rng(subset).permutation(whole)[: int(0.8 * len(whole))]
            trial = make_trial(held, inside=part, outside=outside)
            for each, budget in budgets(options.per_class, count=trial.count, rows=len(part)):
                for method in ("usl", "random"):
                    picks = select(method, trial, budget, 0)
                    found.setdefault((method, each), []).append(float(np.mean(accuracy(trial, picks))))
        yield [
            {"set": name, "per_class": each}
            | {method: float(np.std(found[method, each], ddof=1)) for method in ("usl", "random")}
            for each in options.per_class
            if ("usl", each) in found
        ]


def seed_range(text: str) -> list[int]:
    """Parse '10-19' or '3'."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS), help="feature sets")
    parser.add_argument("--methods", nargs="+", default=[*BASELINES, "usl", "usl, 20 neighbors"])
    parser.add_argument(
        "--seeds", type=seed_range, default=seed_range("10-13"), help="10 and more report, 0-4 tuned"
    )
    parser.add_argument("--pools", type=int, nargs="+", default=list(POOLS), help="rows per pool")
    parser.add_argument(
        "--per-class", type=float, nargs="+", default=list(PER_CLASS), help="labels per class"
    )
    parser.add_argument(
        "--ablation", action="store_const", dest="methods", const=["random", "usl", *ABLATIONS],
        help="compare variants of usl-t instead of methods",
    )  # fmt: skip
    parser.add_argument("--halves", action="store_true", help="measure the first half of the order too")
    parser.add_argument("--stability", action="store_true", help="measure 80 %% subsets too")
    parser.add_argument("--data-dir", type=Path, help="folder with clothing.zip")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "usl-backend-benchmarks")
    parser.add_argument(
        "--json", type=Path, help="where records go as they are made; what it holds already is not made again"
    )
    parser.add_argument("--markdown", type=Path, help="write the tables of docs/benchmarks.md here")
    parser.add_argument("--plot", type=Path, help="write an SVG here")
    parser.add_argument(
        "--ours",
        default="usl",
        help="method that the others are held against (usl-t with --show of its runs)",
    )
    parser.add_argument(
        "--show", type=Path, nargs="+", help="only show what --json wrote, several runs together"
    )
    return parser.parse_args()


def main() -> None:
    options = parse()

    def load_set(name: str) -> FeatureSet:
        return load(name, cache=options.cache, data_dir=options.data_dir)

    sources = options.show or ([options.json] if options.json and options.json.exists() else [])
    held = [json.loads(path.read_text(encoding="utf-8")) for path in sources]
    records = [record for one in held for record in one["records"]]
    steady = [record for one in held for record in one["stability"]]

    def keep() -> None:
        if options.json:
            content = {"stability": steady, "records": records}
            options.json.write_text(json.dumps(content), encoding="utf-8")

    if not options.show:
        for part in measure(options, load_set, records):
            records += part
            keep()
        if options.stability:
            for part in stability(options, load_set, steady):
                steady += part
                keep()
    results = Results(records, ours=options.ours)
    unseen = ", ".join(name for name in SETS if name not in TUNING)
    print(f"\nsets chosen on: {', '.join(TUNING)}; never looked at: {unseen}")
    shown = results.markdown()
    print(shown)
    for bar in results.bars(steady):
        print(f"{'holds' if bar.holds else 'FAILS'}  {bar.figure}: {bar.value:.2f}  {bar.note}")
    if options.markdown:
        options.markdown.write_text(shown, encoding="utf-8")
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()

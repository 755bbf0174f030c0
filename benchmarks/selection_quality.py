"""Quality of selections on real data: what labels on the picks are worth, method by method.

Every method selects from the same pools; a cell is a data set and a budget. Accuracy is the mean of 1-NN, linear
(both on rows outside the pool) and label propagation (on the unlabeled rows of the pool), in percent.

    python benchmarks/selection_quality.py --seeds 10-19 --data-dir FOLDER --json quality.json --plot quality.svg
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rivals import RIVALS
from selection_data import SETS, TUNING, FeatureSet, load
from selection_results import PER_CLASS, Results, plot

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
NESTED = ("maxherding", "facility-location", "k-center", "random")
"""Methods whose smaller selections are prefixes of larger ones: selected once per pool."""
BASELINES = (
    "random", "stratified (oracle)", "k-means", "k-center", "typiclust", "probcover", "maxherding", "rdss",
    "facility-location", "paper-cifar10",
)  # fmt: skip
ABLATIONS: dict[str, dict[str, Any]] = {
    "usl-t": {},
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
    neighbors: Neighbors
    wide: Neighbors


def make_trial(held: FeatureSet, *, seed: int, pool: int) -> Trial:
    """Draw a pool and its test rows; centre, project to 128 and normalize by the pool alone."""
    order = np.random.default_rng(1000 + seed).permutation(len(held.rows))
    inside = np.sort(order[: min(held.pool, pool)])
    outside = np.sort(order[held.pool : held.pool + 3000])
    projection = fit_projection(held.rows[inside], dimensions=128)
    rows = projection.apply(held.rows[inside])
    return Trial(
        rows, held.classes[inside], projection.apply(held.rows[outside]), held.classes[outside],
        int(held.classes.max()) + 1, nearest_neighbors(rows, k=32),
        nearest_neighbors(rows, k=400, include_self=True),
    )  # fmt: skip


def accuracy(trial: Trial, picks: NDArray[np.int64]) -> list[float]:
    """Compute 1-NN, linear and propagation accuracy of labels on the picks, in percent."""
    rows, classes = trial.rows[picks], trial.classes[picks]
    test, truth = trial.test_rows, trial.test_classes
    near = trial.neighbors
    graph = Neighbors(near.indices[:, :10], near.distances[:, :10], near.exact)
    return [
        100 * nearest_neighbor_accuracy(rows, classes=classes, test_rows=test, test_classes=truth),
        100 * linear_accuracy(rows, classes=classes, test_rows=test, test_classes=truth),
        100 * propagation_accuracy(graph, picks=picks, classes=classes, truth=trial.classes),
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
    if method in ABLATIONS:
        # The rows are projected already.
        uslt = USLT(**{"projection": 0} | ABLATIONS[method])
        return uslt.select(trial.rows, budget, rng=seed, neighbors=trial.neighbors).indices
    if method == "usl":
        usl = USL(projection=0, normalize=False)
        return usl.select(trial.rows, budget, rng=seed, neighbors=trial.neighbors).indices
    options: dict[str, Any] = {"projection": 0}
    if method == "probcover":
        options["classes"] = trial.count
    return (METHODS | RIVALS)[method](**options).select(trial.rows, budget, rng=seed).indices


def measure(
    names: Sequence[str], methods: Sequence[str], seeds: Sequence[int], pool: int,
    load_set: Callable[[str], FeatureSet], known: Sequence[dict[str, Any]] = (),
) -> Iterator[list[dict[str, Any]]]:  # fmt: skip
    """Yield the records of one data set, seed and method at a time, those known left out: one per budget."""
    done = {(record["set"], record["seed"], record["method"]) for record in known}
    for name in names:
        held = load_set(name)
        for seed in seeds:
            left = [method for method in methods if (name, seed, method) not in done]
            if not left:
                continue
            trial = make_trial(held, seed=seed, pool=pool)
            for method in left:
                began = time.process_time()
                yield measure_method(method, trial, name, seed)
                print(f"{name} seed {seed} {method}: {time.process_time() - began:.1f} CPU s", flush=True)


def measure_method(method: str, trial: Trial, name: str, seed: int) -> list[dict[str, Any]]:
    """Measure one method on one pool at every budget."""
    longest = select(method, trial, max(PER_CLASS) * trial.count, seed) if method in NESTED else None
    records = []
    for each in PER_CLASS:
        budget = each * trial.count
        picks = longest[:budget] if longest is not None else select(method, trial, budget, seed)
        spread = class_spread(trial.classes[picks], classes=trial.count)
        record = {
            "set": name, "per_class": each, "seed": seed, "method": method,
            "accuracy": accuracy(trial, picks), "covered": spread.covered / trial.count,
            "evenness": spread.evenness, "purity": cell_purity(trial, picks),
        }  # fmt: skip
        if method == "usl":
            half = max(1, budget // 2)
            fresh = select(method, trial, half, seed)
            record["half"] = accuracy(trial, picks[:half])
            record["fresh_half"] = accuracy(trial, fresh)
        records.append(record)
    return records


def stability(
    names: Sequence[str],
    pool: int,
    load_set: Callable[[str], FeatureSet],
    known: Sequence[dict[str, Any]] = (),
) -> Iterator[list[dict[str, Any]]]:
    """Yield the s.d. of the accuracy over random 80 % subsets of one pool, same seed, of usl and random, set by set."""
    done = {record["set"] for record in known}
    for name in names:
        if name in done:
            continue
        held = load_set(name)
        whole = np.random.default_rng(99).permutation(len(held.rows))[: min(held.pool, pool)]
        outside = np.setdiff1d(np.arange(len(held.rows)), whole)
        found: dict[tuple[str, int], list[float]] = {}
        for subset in range(SUBSETS):
            part = np.random.default_rng(subset).permutation(whole)[: int(0.8 * len(whole))]
            drawn = FeatureSet(
                name, held.rows[np.concatenate([part, outside])],
                held.classes[np.concatenate([part, outside])], len(part),
            )  # fmt: skip
            trial = _fixed_trial(drawn)
            for method in ("usl", "random"):
                for each in PER_CLASS:
                    picks = select(method, trial, each * trial.count, 0)
                    found.setdefault((method, each), []).append(float(np.mean(accuracy(trial, picks))))
        records = []
        for each in PER_CLASS:
            ours, chance = (float(np.std(found[method, each], ddof=1)) for method in ("usl", "random"))
            records.append({"set": name, "per_class": each, "usl": ours, "random": chance})
        yield records


def _fixed_trial(drawn: FeatureSet) -> Trial:
    """Make a trial of the first rows as pool and the next 3,000 as test."""
    projection = fit_projection(drawn.rows[: drawn.pool], dimensions=128)
    rows = projection.apply(drawn.rows[: drawn.pool])
    test = slice(drawn.pool, drawn.pool + 3000)
    near = nearest_neighbors(rows, k=32)
    return Trial(
        rows, drawn.classes[: drawn.pool], projection.apply(drawn.rows[test]), drawn.classes[test],
        int(drawn.classes.max()) + 1, near, near,
    )  # fmt: skip


def seed_range(text: str) -> list[int]:
    """Parse '10-19' or '3'."""
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def write(
    results: Results,
    bars: Sequence[dict[str, Any]],
    steady: Sequence[dict[str, Any]],
    options: argparse.Namespace,
) -> None:
    """Write what was asked for: summary, tables, plot."""
    if options.summary:
        summary = {
            "seeds": results.seeds, "pool": options.pool, "figures": bars, "stability": steady,
            "cells": {
                method: {
                    f"{name} {each}/class": round(float(mean), 2)
                    for (name, each), mean in zip(results.cells, values.mean(axis=1), strict=True)
                }
                for method, values in results.values.items()
            },
        }  # fmt: skip
        options.summary.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(results.markdown(), encoding="utf-8")
    if options.plot:
        plot(results.lines(), PER_CLASS, options.plot, bold="usl")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS), help="feature sets")
    parser.add_argument(
        "--methods", nargs="+", default=[*BASELINES, "usl"], help="methods beside the default"
    )
    parser.add_argument(
        "--seeds", type=seed_range, default=seed_range("10-19"), help="10-19 reports, 0-4 tuned"
    )
    parser.add_argument("--pool", type=int, default=5000, help="rows per pool, at most")
    parser.add_argument(
        "--ablation", action="store_const", dest="methods", const=["random", "usl", *ABLATIONS],
        help="compare variants of usl-t instead of methods",
    )  # fmt: skip
    parser.add_argument("--no-stability", action="store_true", help="leave out the 80 %% subsets")
    parser.add_argument("--data-dir", type=Path, help="folder with clothing.zip")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "usl-backend-benchmarks")
    parser.add_argument(
        "--json", type=Path, help="where records go as they are made; what it holds already is not made again"
    )
    parser.add_argument("--summary", type=Path, help="write figures and means here, as JSON")
    parser.add_argument("--markdown", type=Path, help="write the tables of docs/benchmarks.md here")
    parser.add_argument("--plot", type=Path, help="write an SVG here")
    parser.add_argument(
        "--show", type=Path, nargs="+", help="only show what --json wrote, several runs together"
    )
    options = parser.parse_args()

    def load_set(name: str) -> FeatureSet:
        return load(name, cache=options.cache, data_dir=options.data_dir)

    sources = options.show or ([options.json] if options.json and options.json.exists() else [])
    held = [json.loads(path.read_text(encoding="utf-8")) for path in sources]
    if any(one["pool"] != options.pool for one in held):
        raise SystemExit(f"{held[0]['pool']} rows per pool were measured: give --pool, or another --json")
    records = [record for one in held for record in one["records"]]
    steady = [record for one in held for record in one["stability"]]

    def keep() -> None:
        if options.json:
            content = {"pool": options.pool, "stability": steady, "records": records}
            options.json.write_text(json.dumps(content), encoding="utf-8")

    if not options.show:
        for part in measure(options.sets, options.methods, options.seeds, options.pool, load_set, records):
            records += part
            keep()
        if not options.no_stability:
            for part in stability(options.sets, options.pool, load_set, steady):
                steady += part
                keep()
    records = [record for record in records if record["seed"] in options.seeds]
    results = Results(records)
    bars = results.bars(steady) if "usl" in results.methods else []
    unseen = ", ".join(name for name in SETS if name not in TUNING)
    print(f"\nsets chosen on: {', '.join(TUNING)}; never looked at: {unseen}")
    print(results.table())
    for bar in bars:
        print(
            f"{'holds' if bar['holds'] else 'FAILS'}  {bar['figure']}: {bar['value']}  {'; '.join(bar['note'])}"
        )
    write(results, bars, steady, options)


if __name__ == "__main__":
    main()

"""Measure suggestions from the labels of a few picks: accuracy, and whether the promises made about it hold.

Pools are 85 % draws of at most 4,000 rows; picks are those of the default selection. A cell is a set, labels per class
and control labels; each has a number of control sets, drawn uniformly from the pool.

    python benchmarks/suggestions.py --json suggestions.json --markdown suggestions.md
    python benchmarks/suggestions.py --scale 1000000 --classes 10
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from selection_data import BUNDLED, SETS, FeatureSet, load

from usl_backend import USL, Control, Suggestions, accept, accuracy, calibrate, label_check, suggest
from usl_backend.selection import Neighbors
from usl_backend.suggestions import wilson

SHOWN = ("digits", "fashion-demo-lite0", "bbc-minilm", "debian-minilm")
PER_CLASS = (1, 4, 10)
CONTROLS = (50, 100, 200)
WRONG = 0.05
BARS = {
    "digits": (82, 94), "fashion-lite0": (66, 75), "bbc-minilm": (93, 94.5),
    "debian-minilm": (72, 82),
}  # fmt: skip
"""Accuracy to reach at 1 and at 4 labels per class, in percent."""


@dataclass(frozen=True)
class Drawn:
    """A pool with neighbors, searched once."""

    rows: NDArray[np.float32]
    classes: NDArray[np.int64]
    count: int
    neighbors: Neighbors | None


def draw(held: FeatureSet, *, seed: int) -> Drawn:
    """85 % of a set, at most 4,000 rows."""
    order = np.random.default_rng(1000 + seed).permutation(len(held.rows))
    inside = np.sort(order[: min(4000, int(0.85 * len(order)))])
    rows = held.rows[inside]
    return Drawn(rows, held.classes[inside], int(held.classes.max()) + 1, USL().search(rows))


def calibration_error(chance: NDArray[Any], right: NDArray[np.bool_], *, bins: int = 10) -> float:
    """Mean distance of the chance from the share right, over bins of equally many rows, in points."""
    order = np.argsort(chance, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(
        100 * sum(len(part) * abs(chance[part].mean() - right[part].mean()) for part in parts) / len(order)
    )


def judge(pool: Drawn, found: Suggestions, *, draws: int, seed: int) -> list[dict[str, Any]]:
    """Calibration, acceptance and intervals over control sets: a record per size."""
    free = np.flatnonzero(~found.given)
    right = found.label == pool.classes
    true = float(right[free].mean())
    records = []
    for size in CONTROLS:
        if 2 * size > len(free):
            continue
        rng = np.random.default_rng([seed, size])
        errors, widths, plain, held, plain_held, bought = [], [], [], 0, 0, []
        for _ in range(draws):
            rows = rng.choice(free, size, replace=False)
            control = Control(rows, pool.classes[rows])
            rest = np.setdiff1d(free, rows)
            errors.append(calibration_error(calibrate(found, control=control).confidence[rest], right[rest]))
            share = accuracy(found, control=control)
            low, high = wilson(float(right[rows].mean()), size)
            held += share.low <= true <= share.high
            plain_held += low <= true <= high
            widths.append(50 * (share.high - share.low))
            plain.append(50 * (high - low))
            taken = accept(found, control=control)
            bought.append(
                {
                    "accepted": taken.count,
                    "precision": float(right[taken.accepted].mean()) if taken.count else None,
                }
            )
        records.append(
            {
                "control": size, "draws": draws, "calibration_error": float(np.mean(errors)),
                "raw_error": calibration_error(found.confidence[free], right[free]),
                "half_width": float(np.mean(widths)), "wilson_half_width": float(np.mean(plain)),
                "covered": held, "wilson_covered": plain_held, "acceptances": bought,
            }
        )  # fmt: skip
    return records


def nearest_class(pool: Drawn) -> NDArray[np.int64]:
    """Class whose mean is nearest to that of each class."""
    rows = USL().prepare(pool.rows)
    means = np.stack([rows[pool.classes == kind].mean(axis=0) for kind in range(pool.count)])
    apart = ((means[:, None] - means[None]) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest: NDArray[np.int64] = apart.argmin(axis=1)
    return nearest


def doubts(
    pool: Drawn, labels: NDArray[np.int64], *, control: int, draws: int, seed: int, alike: bool = False
) -> list[float]:
    """AUC of the label check where 5 % of picks and control labels are wrong; draws without one left out.

    Wrong labels are any other class, or where `alike` the nearest one.
    """
    nearest = nearest_class(pool)
    found = []
    for number in range(draws):
        rng = np.random.default_rng([seed, number])
        free = np.flatnonzero(labels < 0)
        given = labels.copy()
        rows = rng.choice(free, min(control, len(free) // 2), replace=False)
        given[rows] = pool.classes[rows]
        labeled = np.flatnonzero(given >= 0)
        wrong = rng.choice(labeled, max(1, round(WRONG * len(labeled))), replace=False)
        other = (given[wrong] + rng.integers(1, pool.count, len(wrong))) % pool.count
        given[wrong] = nearest[given[wrong]] if alike else other
        if np.bincount(given[labeled]).max() < 2:
            continue  # no label can be judged by another of its class
        checked = label_check(pool.rows, given, neighbors=pool.neighbors, seed=number)
        bad = np.isin(checked.rows, wrong)
        if bad.any() and not bad.all():
            above = checked.doubt[bad][:, None] - checked.doubt[~bad][None, :]
            found.append(float((above > 0).mean() + (above == 0).mean() / 2))
    return found


def measure(held: FeatureSet, *, seeds: int, draws: int, checks: int) -> list[dict[str, Any]]:
    """Records of a set: one per pool and labels per class."""
    records = []
    for seed in range(seeds):
        pool = draw(held, seed=seed)
        for each in PER_CLASS:
            budget = each * pool.count
            if 4 * budget > len(pool.rows):
                continue
            began = time.process_time()
            picks = USL().select(pool.rows, budget, rng=seed, neighbors=pool.neighbors).indices
            labels = np.full(len(pool.rows), -1)
            labels[picks] = pool.classes[picks]
            found = suggest(pool.rows, labels, neighbors=pool.neighbors)
            free = ~found.given
            record = {
                "set": held.name, "seed": seed, "per_class": each, "rows": len(pool.rows), "budget": budget,
                "accuracy": float(100 * (found.label == pool.classes)[free].mean()),
                "controls": judge(pool, found, draws=draws, seed=seed),
                "check_alone": doubts(pool, labels, control=0, draws=checks, seed=seed),
                "check_control": doubts(pool, labels, control=100, draws=checks, seed=seed),
                "alike_alone": doubts(pool, labels, control=0, draws=checks, seed=seed, alike=True),
                "alike_control": doubts(pool, labels, control=100, draws=checks, seed=seed, alike=True),
            }  # fmt: skip
            records.append(record)
            print(
                f"{held.name} pool {seed}, {each} per class: {record['accuracy']:.1f} %, "
                f"{time.process_time() - began:.1f} CPU s",
                flush=True,
            )
    return records


def of_cell(records: Sequence[dict[str, Any]], name: str, each: int) -> list[dict[str, Any]]:
    """Records of a set and labels per class."""
    return [one for one in records if one["set"] == name and one["per_class"] == each]


def tables(records: Sequence[dict[str, Any]]) -> str:
    """Two Markdown tables: suggestions and the label check, then what a control set gives."""
    cells = list(dict.fromkeys((one["set"], one["per_class"]) for one in records))
    lines = [
        "| set | per class | right, % | check AUC, picks | with control | nearest class, picks | with control |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in cells:
        held = of_cell(records, name, each)
        right = [one["accuracy"] for one in held]
        alone, control, near, near_control = (
            float(np.mean([auc for one in held for auc in one[key]]))
            for key in ("check_alone", "check_control", "alike_alone", "alike_control")
        )
        lines.append(
            f"| {name} | {each} | {np.mean(right):.1f} ± {np.std(right, ddof=1) if len(right) > 1 else 0:.1f} "
            f"| {alone:.2f} | {control:.2f} | {near:.2f} | {near_control:.2f} |"
        )
    lines += [
        "",
        "| set | per class | control | chance off by | interval ± | accept any | bought -> got | right | below 95 % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in cells:
        held = of_cell(records, name, each)
        for size in CONTROLS:
            parts = [part for one in held for part in one["controls"] if part["control"] == size]
            if not parts:
                continue
            runs = [run for part in parts for run in part["acceptances"]]
            some = [run for run in runs if run["accepted"]]
            bought = held[0]["budget"] + size
            got = bought + np.mean([run["accepted"] for run in runs])
            total = sum(run["accepted"] for run in some)
            share = sum(run["accepted"] * run["precision"] for run in some) / total if total else None
            below = np.mean([run["accepted"] > 0 and run["precision"] < 0.95 for run in runs])
            lines.append(
                f"| {name} | {each} | {size} | {np.mean([part['calibration_error'] for part in parts]):.1f} "
                f"| {np.mean([part['half_width'] for part in parts]):.1f} | {100 * len(some) / len(runs):.0f} % "
                f"| {bought} -> {got:,.0f} | {'' if share is None else f'{100 * share:.1f}'} | {100 * below:.1f} % |"
            )
    return "\n".join(lines)


def bars(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each figure asked for, its value and whether it holds."""
    rows: list[dict[str, Any]] = []

    def add(name: str, value: float, holds: bool) -> None:
        rows.append({"figure": name, "value": round(value, 2), "holds": bool(holds)})

    for name in dict.fromkeys(one["set"] for one in records):
        for each, least in zip((1, 4), BARS.get(name, ()), strict=False):
            if held := of_cell(records, name, each):
                value = float(np.mean([one["accuracy"] for one in held]))
                add(f"{name}, {each} per class >= {least} %", value, value >= least)
    parts = [part for one in records for part in one["controls"]]
    runs = [run for part in parts for run in part["acceptances"]]
    below = 100 * float(np.mean([run["accepted"] > 0 and run["precision"] < 0.95 for run in runs]))
    add(f"accepted sets below the promise, of {len(runs)} runs <= 4 %", below, below <= 4)
    draws = sum(part["draws"] for part in parts)
    for key, what in (("wilson_covered", "Wilson"), ("covered", "the interval given")):
        share = 100 * sum(part[key] for part in parts) / draws
        add(f"coverage of {what}, {draws} draws >= 94 %", share, share >= 94)
    auc = float(np.mean([auc for one in records for auc in one["check_control"]]))
    add("label check AUC with control >= 0.90", auc, auc >= 0.9)
    for size in CONTROLS:
        some = [part for part in parts if part["control"] == size]
        if some:
            for key in ("calibration_error", "raw_error", "half_width", "wilson_half_width"):
                print(f"{key}, {size} control labels: {np.mean([part[key] for part in some]):.1f} points")
    return rows


def scale(n: int, *, classes: int, dimensions: int = 128) -> dict[str, Any]:
    """Time and memory of one `suggest` on made-up rows with neighbors given."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, classes * 20, n)
    rows = rng.normal(size=(classes * 20, dimensions)).astype(np.float32)[kind]
    for begin in range(0, n, 65_536):
        part = rows[begin : begin + 65_536]
        part += 0.8 * rng.normal(size=part.shape).astype(np.float32)
    neighbors = USL().search(rows)
    labels = np.full(n, -1)
    picks = rng.choice(n, 4 * classes, replace=False)
    labels[picks] = kind[picks] // 20
    # A new top of memory is only seen above the one that the search has left.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident("VmRSS")
    began = time.process_time()
    suggest(rows, labels, neighbors=neighbors)
    return {
        "rows": n, "classes": classes, "dimensions": dimensions, "cpu_s": time.process_time() - began,
        "gb_above": (_resident("VmHWM") - before) / 1e6,
        "gb_at_most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }  # fmt: skip


def _resident(what: str) -> int:
    """Memory of this process in kB, now (VmRSS) or at most (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(what)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=list(SHOWN), choices=[*SETS, *BUNDLED])
    parser.add_argument("--seeds", type=int, default=3, help="pools per set")
    parser.add_argument("--draws", type=int, default=50, help="control sets per pool and cell")
    parser.add_argument("--checks", type=int, default=5, help="label checks per pool and cell")
    parser.add_argument("--data-dir", type=Path, help="folder with clothing.zip")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "usl-backend-benchmarks")
    parser.add_argument("--json", type=Path, help="write records and figures here")
    parser.add_argument("--markdown", type=Path, help="write the tables of docs/benchmarks.md here")
    parser.add_argument("--scale", type=int, help="only time this many rows")
    parser.add_argument("--classes", type=int, default=10, help="classes of --scale")
    options = parser.parse_args()
    if options.scale:
        timed = scale(options.scale, classes=options.classes)
        print(json.dumps(timed))
        if options.json:
            options.json.write_text(json.dumps(timed), encoding="utf-8")
        return
    records: list[dict[str, Any]] = []
    for name in options.sets:
        held = load(name, cache=options.cache, data_dir=options.data_dir)
        records += measure(held, seeds=options.seeds, draws=options.draws, checks=options.checks)
    shown, asked = tables(records), bars(records)
    print(shown)
    for one in asked:
        print(f"{'holds' if one['holds'] else 'FAILS'}  {one['figure']}: {one['value']}")
    if options.json:
        options.json.write_text(json.dumps({"figures": asked, "records": records}), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(shown + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Measure the rules for the next round: accuracy after twice the labels, against picks that hold their clusters.

Pools and first picks are those of `suggestions.py`. A cell is a set and labels per class; after the first picks each
rule chooses as many again, and accuracy is the share of the whole pool with the right class, given or suggested.

    python benchmarks/next_rounds.py --json next.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from selection_data import BUNDLED, SETS, load
from suggestions import SHOWN, Drawn, draw

from usl_backend import USL, suggest
from usl_backend.suggestions import next_round, next_rule
from usl_backend.suggestions.rounds import Rule

PER_CLASS = (1, 2, 4, 10)
RULES: tuple[Rule, ...] = get_args(Rule)


def reached(pool: Drawn, labels: NDArray[np.int64]) -> float:
    """Share of the pool with the right class, in percent."""
    found = suggest(pool.rows, labels, neighbors=pool.neighbors)
    return float(100 * (found.label == pool.classes).mean())


def rounds(pool: Drawn, *, each: int, seed: int) -> dict[str, float]:
    """Accuracy after twice the labels, by rule."""
    budget = each * pool.count
    labels = np.full(len(pool.rows), -1)
    first = USL().select(pool.rows, budget, rng=seed, neighbors=pool.neighbors).indices
    labels[first] = pool.classes[first]
    free = np.flatnonzero(labels < 0)
    chosen = {"random": np.random.default_rng([seed, 1]).choice(free, budget, replace=False)}
    for rule in RULES:
        found = next_round(pool.rows, labels, budget, rng=seed, rule=rule, neighbors=pool.neighbors)
        chosen[rule] = found.indices
    right = {}
    for name, more in chosen.items():
        both = labels.copy()
        both[more] = pool.classes[more]
        right[name] = reached(pool, both)
    return right


def table(records: Sequence[dict[str, Any]]) -> str:
    """A Markdown row per set and labels per class, and the mean over the sets."""
    lines = [
        "| set | per class | keep-labels, % right | least-sure-half | smallest-margin | random | the rule |",
        "|---|---|---|---|---|---|---|",
    ]
    cells = list(dict.fromkeys((one["set"], one["per_class"]) for one in records))
    cells += [("all", each) for each in PER_CLASS]
    for name, each in cells:
        held = [one for one in records if one["per_class"] == each and name in (one["set"], "all")]
        if not held:
            continue
        base = float(np.mean([one["right"]["keep-labels"] for one in held]))
        gains = [
            float(np.mean([one["right"][rule] - one["right"]["keep-labels"] for one in held]))
            for rule in RULES[1:]
        ]
        chosen = next_rule(each, classes=1).rule
        lines.append(
            f"| {name} | {each} | {base:.1f} | "
            + " | ".join(f"{gain:+.1f}" for gain in gains)
            + f" | {chosen} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=list(SHOWN), choices=[*SETS, *BUNDLED])
    parser.add_argument("--seeds", type=int, default=3, help="pools per set")
    parser.add_argument("--data-dir", type=Path, help="folder with clothing.zip")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "usl-backend-benchmarks")
    parser.add_argument("--json", type=Path, help="write records here")
    options = parser.parse_args()
    records = []
    for name in options.sets:
        held = load(name, cache=options.cache, data_dir=options.data_dir)
        for seed in range(options.seeds):
            pool = draw(held, seed=seed)
            for each in PER_CLASS:
                if 8 * each * pool.count > len(pool.rows):
                    continue
                right = rounds(pool, each=each, seed=seed)
                records.append({"set": name, "seed": seed, "per_class": each, "right": right})
    print(table(records))
    if options.json:
        options.json.write_text(json.dumps(records), encoding="utf-8")


if __name__ == "__main__":
    main()

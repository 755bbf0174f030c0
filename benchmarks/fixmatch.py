"""FixMatch on pixels of Fashion-MNIST: labels of chosen rows against labels of random rows.

    python benchmarks/fixmatch.py --cache DIR

Every seed draws a pool of 10,000 training pictures and chooses 2 and 4 rows per class in three ways: the default
method on the bundled encoder's embeddings, at random, and at random with equal classes, which needs the true
classes and so is an oracle. examples/fixmatch/fixmatch.py trains on each, with the rest of the pool unlabeled and
without it; accuracy is on 5,000 test pictures. The recipe was settled on other seeds (100 to 102), with class-balanced
random rows and on training pictures outside the pool, so that nothing here was looked at before. A run that was
interrupted goes on where it stopped.

    python benchmarks/fixmatch.py --cache DIR --same pool --pools 4 --seeds 6 --output same-pool.json
    python benchmarks/fixmatch.py --cache DIR --same labels --pools 3 --seeds 3 --output same-labels.json

tell apart what the spread over seeds is made of: with `--same pool` seeds differ in labels and training, with
`--same labels` in training alone. The s.d. is then the one within a pool, over all pools.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from selection_data import TEST_ROWS, TRAIN_ROWS, load

EXAMPLE = Path(__file__).parent.parent / "examples" / "fixmatch" / "fixmatch.py"
RESULTS = Path(__file__).parent / "results" / "fixmatch.json"
WAYS = ("chosen", "random", "balanced")
TRAININGS = ("fixmatch", "supervised")
CLASSES = 10


def example() -> Any:
    """Load the example's code, which is no package."""
    spec = importlib.util.spec_from_file_location("fixmatch_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def choose(
    way: str, rows: NDArray[np.float32], classes: NDArray[np.int64], *, per_class: int, seed: int
) -> NDArray[np.int64]:
    """Choose rows of the pool to label."""
    from usl_backend import USL

    budget = per_class * CLASSES
    if way == "chosen":
        return USL().select(rows, budget, rng=seed).indices
    rng = np.random.default_rng(seed)
    if way == "random":
        return rng.choice(len(rows), budget, replace=False)
    drawn = [rng.choice(np.flatnonzero(classes == c), per_class, replace=False) for c in range(CLASSES)]
    return np.concatenate(drawn)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Train every cell that the results do not hold yet."""
    import torch

    torch.set_num_threads(options.threads)
    fixmatch = example()
    embedded = load("fashion-lite0", cache=options.cache, data_dir=None)
    pixels = load("fashion-pixels", cache=options.cache, data_dir=None).rows
    pictures = torch.from_numpy((pixels * 255).round().astype(np.uint8).reshape(-1, 1, 28, 28))
    truth = torch.from_numpy(embedded.classes)
    test = slice(TRAIN_ROWS, TRAIN_ROWS + TEST_ROWS)
    held = json.loads(options.output.read_text()) if options.output.exists() else {"runs": []}
    if held["runs"] and held["settings"].get("same", "nothing") != options.same:
        raise SystemExit(f"{options.output} holds runs of another --same: name another --output")
    done: list[dict[str, Any]] = held["runs"]
    known = {(pool_of(run), run["seed"], run["per_class"], run["way"]) for run in done}
    pairs = [(seed, seed) for seed in range(options.seeds)]
    if options.same != "nothing":
        # Seeds of their own, so that no training repeats one of the other kind.
        pairs = [(drawn, 1000 + seed) for drawn in range(options.pools) for seed in range(options.seeds)]
    for drawn, seed in pairs:
        pool = np.random.default_rng(drawn).permutation(TRAIN_ROWS)[: options.pool]
        for per_class in options.per_class:
            for way in options.ways:
                if (drawn, seed, per_class, way) in known:
                    continue
                picks = choose(
                    way,
                    embedded.rows[pool],
                    embedded.classes[pool],
                    per_class=per_class,
                    seed=drawn if options.same == "labels" else seed,
                )
                rest = torch.from_numpy(np.delete(pool, picks))
                rows = torch.from_numpy(pool[picks])
                run: dict[str, Any] = {"pool": drawn, "seed": seed, "per_class": per_class, "way": way}
                run["classes_found"] = len(set(truth[rows].tolist()))
                for name, unlabeled in (("fixmatch", pictures[rest]), ("supervised", None)):
                    begun = time.process_time()
                    net = fixmatch.train(
                        pictures[rows],
                        truth[rows],
                        unlabeled,
                        classes=CLASSES,
                        seed=seed,
                        steps=options.steps,
                    )
                    run[f"{name}_cpu_seconds"] = round(time.process_time() - begun, 1)
                    run[name] = fixmatch.accuracy(net, pictures[test], truth[test])
                done.append(run)
                print(json.dumps(run), flush=True)
                options.output.parent.mkdir(parents=True, exist_ok=True)
                settings = {
                    "steps": options.steps, "pool": options.pool, "threads": options.threads, "same": options.same,
                }  # fmt: skip
                options.output.write_text(json.dumps({"settings": settings, "runs": done}, indent=1))
    return [run for run in done if (pool_of(run), run["seed"]) in pairs]


def pool_of(run: dict[str, Any]) -> int:
    """Return the seed that the pool was drawn with; results of earlier versions have one seed for everything."""
    return int(run.get("pool", run["seed"]))


def spread(runs: list[dict[str, Any]], training: str) -> float:
    """Compute the s.d. over seeds in points; within a pool, over all pools, where a pool has several seeds."""
    pools: dict[int, list[float]] = {}
    for run in runs:
        pools.setdefault(pool_of(run), []).append(100 * run[training])
    if all(len(values) == 1 for values in pools.values()):
        return float(np.std([value for (value,) in pools.values()], ddof=1))
    return float(np.sqrt(np.mean([np.var(values, ddof=1) for values in pools.values()])))


def report(runs: list[dict[str, Any]]) -> None:
    """Print mean, s.d. and every seed as a Markdown table; then the gaps to random and their steadiness."""
    print("\nAccuracy in %, mean +- s.d. over seeds; FixMatch by seed behind it.\n")
    print("| labels per class | rows | FixMatch | labeled rows only | seeds |")
    print("|---|---|---|---|---|")
    means: dict[tuple[int, str, str], float] = {}
    spreads: dict[tuple[int, str, str], float] = {}
    budgets = sorted({run["per_class"] for run in runs})
    ways = [way for way in WAYS if any(run["way"] == way for run in runs)]
    for per_class in budgets:
        for way in ways:
            cell = [run for run in runs if (run["per_class"], run["way"]) == (per_class, way)]
            cell.sort(key=lambda run: (pool_of(run), run["seed"]))
            told = []
            for name in TRAININGS:
                means[per_class, way, name] = 100 * float(np.mean([run[name] for run in cell]))
                spreads[per_class, way, name] = spread(cell, name)
                told.append(f"{means[per_class, way, name]:.1f} +- {spreads[per_class, way, name]:.1f}")
            seeds = " ".join(f"{100 * run['fixmatch']:.1f}" for run in cell)
            print(f"| {per_class} | {way} | {told[0]} | {told[1]} | {seeds} |")
    print()
    for per_class in budgets if "chosen" in ways else ():
        for name in TRAININGS:
            ours = (per_class, "chosen", name)
            gaps = [
                f"{means[ours] - means[per_class, way, name]:+.1f} points over {way}"
                for way in ways
                if way != "chosen"
            ]
            if "random" in ways:
                gaps.append(f"s.d. {spreads[ours] / spreads[per_class, 'random', name]:.2f} of random's")
            print(f"{name}, {per_class} a class: {', '.join(gaps)}")
    seconds = [run["fixmatch_cpu_seconds"] for run in runs]
    print(f"FixMatch takes {np.mean(seconds):.0f} CPU seconds a run ({min(seconds)}-{max(seconds)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, default=10, help="per pool with --same")
    parser.add_argument("--same", choices=("nothing", "pool", "labels"), default="nothing")
    parser.add_argument("--pools", type=int, default=5, help="with --same")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), help="chosen and random at least"
    )
    parser.add_argument("--per-class", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--pool", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, required=True, help="folder for embeddings")
    parser.add_argument("--output", type=Path, default=RESULTS)
    report(measure(parser.parse_args()))


if __name__ == "__main__":
    main()

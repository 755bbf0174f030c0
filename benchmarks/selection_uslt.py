"""USL-T in the quality benchmark: its variants by name, and the bar that it is held to. Measuring is elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from usl_backend.selection import USLT, Neighbors

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
"""Name -> options of `USLT`."""


def select_uslt(
    method: str, rows: NDArray[np.float32], budget: int, seed: int, neighbors: Neighbors
) -> NDArray[np.int64]:
    """Picks of a variant on rows that are projected already."""
    options = {"projection": 0} | ABLATIONS[method]
    return USLT(**options).select(rows, budget, rng=seed, neighbors=neighbors).indices

"""Turn confidence into the chance of being right, by control labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from usl_backend.errors import InputError
from usl_backend.suggestions.control import judge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.suggestions.control import Control
    from usl_backend.suggestions.suggesting import Suggestions

FEWEST: Final = 20
"""Control labels that a calibration needs."""
RIDGE: Final = 1.0
"""Weight of half the squared norm of the three slopes beside the sum of the log losses."""
_STEPS: Final = 50


@dataclass(frozen=True)
class Calibration:
    """Chances of being right.

    Attributes
    ----------
    confidence : (n,) float64
        Chance that the suggested label is right, 0 to 1; higher = surer; 1 for given labels.
    controls
        Control labels it was learned from.
    """

    confidence: NDArray[np.float64]
    controls: int


def calibrate(suggestions: Suggestions, *, control: Control) -> Calibration:
    """Turn the order of confidences into chances.

    Parameters
    ----------
    suggestions
        From `suggest`, made without the control labels.
    control
        Labels of a uniform draw of the pool; rows whose label was given to `suggest` are left out.

    Returns
    -------
    Calibration
        Its order may differ a little from that of `suggestions`; `accept` takes that of `suggestions`.

    Raises
    ------
    InputError
        Fewer than 20 control labels on suggestions, or a row outside the pool.

    Notes
    -----
    Logistic regression of "the suggestion is right" on three things, each brought to mean 0 and s.d. 1 over the
    pool: confidence, the probe's share of the label, agreement of the neighbors. Half the squared norm of the slopes is
    added to the sum of the losses, so that 20 labels that are all right do not mean certainty.

    Source: Platt, *Probabilistic Outputs for Support Vector Machines*, 1999.

    Differs: three scores instead of one, and shrunk slopes instead of shifted targets; half a right and half a wrong
    label at the pool's mean keep the intercept finite.
    """
    judged = judge(suggestions, control)
    count = len(judged.rows)
    if count < FEWEST:
        raise InputError(
            f"{count} control labels on suggestions; a calibration needs {FEWEST}, {FEWEST - count} more"
        )
    features = np.stack(
        [suggestions.confidence, suggestions.probe, suggestions.agreement], axis=1, dtype=np.float64
    )
    free = ~suggestions.given
    mean, spread = features[free].mean(axis=0), features[free].std(axis=0)
    features -= mean
    features /= np.where(spread > 1e-12, spread, 1.0)
    weights = _fit(features[judged.rows], judged.right)
    chance = 1.0 / (1.0 + np.exp(-np.clip(features @ weights[1:] + weights[0], -500.0, 500.0)))
    chance[~free] = 1.0
    return Calibration(chance, count)


def _fit(features: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intercept and slopes of least penalised loss, by Newton's method with halved steps."""
    width = features.shape[1]
    inputs = np.concatenate([np.ones((len(features) + 1, 1)), np.zeros((len(features) + 1, width))], axis=1)
    inputs[:-1, 1:] = features
    # The last row is half right and half wrong.
    truth = np.append(right.astype(np.float64), 0.5)
    ridge = np.full(width + 1, RIDGE)
    ridge[0] = 0.0
    weights: NDArray[np.float64] = np.zeros(width + 1)

    def loss(at: NDArray[np.float64]) -> float:
        scores = inputs @ at
        return float((np.logaddexp(0.0, scores) - truth * scores).sum() + (ridge * at * at).sum() / 2)

    now = loss(weights)
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(inputs @ weights, -500.0, 500.0)))
        gradient = inputs.T @ (chance - truth) + ridge * weights
        curvature = (inputs * (chance * (1.0 - chance) + 1e-12)[:, None]).T @ inputs + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while (following := loss(weights - size * step)) > now and size > 1e-6:
            size /= 2
        weights = weights - size * step
        if now - following < 1e-10:
            break
        now = following
    return weights

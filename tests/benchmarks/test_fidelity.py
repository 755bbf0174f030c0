import numpy as np
import pytest
from fidelity import near_ties
from oracles import PAPER, blobs

from usl_backend.selection import usl
from usl_backend.selection.rows.density import density


def lattice(seed):
    """Points of a turned grid: many distances are equal but for the last bits."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    # 0.37 keeps squared distances away from the presets' horizons of 1 and 4.
    return (rng.integers(-1, 2, size=(900, 5)) @ turn * 0.37).astype(np.float32)


@pytest.mark.parametrize("preset", sorted(PAPER))
def test_near_ties__ordinary_rows_have_none(preset):
    rows, _ = blobs(900, 24, seed=11, dtype=np.float32)
    found = near_ties(rows, 30, preset=preset)
    assert found.differing == 0
    assert found.explained


@pytest.mark.parametrize("preset", sorted(PAPER))
@pytest.mark.parametrize("seed", [0, 1])
def test_near_ties__explain_every_pick_that_float32_changes(preset, seed):
    found = near_ties(lattice(seed), 40, preset=preset, seed=seed)
    assert found.differing > 0
    assert found.centers + found.picks > 0
    assert found.explained, found


def test_near_ties__do_not_explain_what_is_no_tie(monkeypatch):
    def shaky(distances, *, floor=0.0):
        value = density(distances, floor=floor)
        return value * (1 + 0.05 * np.sin(np.arange(len(value)))) if value.dtype == np.float32 else value

    monkeypatch.setattr(usl, "density", shaky)
    monkeypatch.setattr("fidelity.density", shaky)
    rows, _ = blobs(900, 24, seed=11, dtype=np.float32)
    assert not near_ties(rows, 100, preset="paper-imagenet-moco").explained

import numpy as np
import pytest
from oracles import blobs, squared
from peers import PEERS, _nearest_rows, coverage


def test_coverage__is_the_mean_squared_distance_to_the_nearest_pick():
    rows, _ = blobs(300, 6, seed=0, dtype=np.float32)
    picks = np.array([3, 77, 120])
    expected = squared(rows.astype(np.float64), rows[picks].astype(np.float64)).min(1).mean()
    assert coverage(rows, picks) == pytest.approx(expected, rel=1e-5)
    centers = rows[picks] + 1e-4
    assert np.array_equal(_nearest_rows(centers, rows), picks)


@pytest.mark.parametrize("peer", ["usl", "faiss", "minibatch", "sklearn"])
def test_peers__choose_rows_of_the_pool(peer):
    _, _, choose = PEERS[peer]
    rows, _ = blobs(400, 6, seed=0, dtype=np.float32)
    picks = choose(rows, 5, 0)
    assert picks.shape == (5,)
    assert coverage(rows, picks) < 0.8 * coverage(rows, np.array([0]))

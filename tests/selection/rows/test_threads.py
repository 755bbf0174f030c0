import pickle

import numpy as np
import pytest
from oracles import blobs

from usl_backend.selection import USL, nearest_neighbors
from usl_backend.selection.rows.neighbors import nearest_of_others, nearest_of_some
from usl_backend.selection.rows.threads import computing_on, map_blocks, row_blocks


class Posting:
    """An executor whose work travels as bytes, with rows that nobody may write to, as between processes."""

    def __init__(self):
        self.works = []

    def map(self, work, blocks):
        work = pickle.loads(pickle.dumps(work))
        work.rows.flags.writeable = False
        self.works.append(type(work).__name__)
        # Answers may come in any order: compute from the end.
        results = {index: work(block) for index, block in reversed(list(enumerate(blocks)))}
        return iter([pickle.loads(pickle.dumps(results[index])) for index in range(len(blocks))])


def same(left, right):
    assert left.indices.tolist() == right.indices.tolist()
    assert left.gain.tobytes() == right.gain.tobytes()
    assert left.score.tobytes() == right.score.tobytes()
    assert np.array_equal(left.cluster, right.cluster)


@pytest.mark.parametrize(
    ("method", "budget", "rows", "works"),
    [
        (USL(), 300, 21_000, {"Cells", "_Nearest", "_NearestAmong"}),
        (USL(), 100, 4_000, {"_ExactSearch", "_Nearest"}),
        (USL(density_weight=1.0, repulsion_weight=1.0), 20, 3_000, {"_ExactSearch", "_Nearest", "_Sum"}),
        (USL(preset="paper-cifar10"), 20, 2_000, {"_ExactSearch", "_Nearest", "_Sum"}),
        (USL(preset="paper-imagenet-clip"), 20, 2_000, {"_ExactSearch", "_Nearest", "_Sum"}),
    ],
)
def test_computing_on__selection_is_the_same_bits(method, budget, rows, works):
    embeddings, _ = blobs(rows, 16, seed=3, groups=40, dtype=np.float32)
    here = method.select(embeddings, budget, rng=1)
    elsewhere = Posting()
    with computing_on(elsewhere):
        there = method.select(embeddings, budget, rng=1)
    same(there, here)
    assert works <= set(elsewhere.works)
    # Outside the block everything is computed here again.
    before = len(elsewhere.works)
    same(method.select(embeddings, budget, rng=1), here)
    assert len(elsewhere.works) == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_computing_on__neighbors_are_the_same_bits(dtype):
    rows, _ = blobs(3_000, 8, seed=4, dtype=dtype)
    targets = np.arange(5, 2_900, 7)
    searches = [lambda: nearest_neighbors(rows, k=5), lambda: nearest_of_some(rows, targets, k=4)]
    if dtype == np.float32:
        searches.append(lambda: nearest_of_others(rows[targets], rows, k=3))
    for search in searches:
        here = search()
        with computing_on(Posting()):
            there = search()
        assert np.array_equal(there.indices, here.indices)
        assert there.distances.tobytes() == here.distances.tobytes()


def test_computing_on__ends_with_its_block_even_when_that_fails():
    with pytest.raises(ZeroDivisionError), computing_on(Posting()):
        raise ZeroDivisionError
    assert list(map_blocks(lambda block: block.stop, row_blocks(10, size=4))) == [4, 8, 10]  # no pickle

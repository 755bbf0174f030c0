import numpy as np

from usl_backend.selection.rows.keys import distance_keys, of_keys, rowwise


def test_distance_keys__sort_by_distance_then_by_row_and_come_apart_again():
    rng = np.random.default_rng(0)
    distances = rng.choice(np.array([0.0, 1e-30, 0.5, 0.5000001, 3.0, np.inf], np.float32), size=400)
    rows = rng.permutation(400).astype(np.int32)
    order = np.argsort(distance_keys(distances, rows), kind="stable")
    assert order.tolist() == np.lexsort((rows, distances)).tolist()
    back, apart = of_keys(distance_keys(distances, rows))
    assert np.array_equal(back, rows)
    assert np.array_equal(apart, distances)


def test_distance_keys__below_zero_is_zero_and_minus_infinity_comes_first():
    keys = distance_keys(np.array([-1e-6, -0.0, 0.0, -np.inf], np.float32), np.array([5, 5, 5, 7], np.int32))
    assert keys[0] == keys[1] == keys[2] > keys[3] == 0
    assert of_keys(keys[:1])[1].tolist() == [0.0]


def test_rowwise__rows_are_sorted_and_filled_up():
    keys = np.array([9, 4, 7, 1], dtype=np.uint64)
    table = rowwise(keys, np.array([0, 2, 0, 0]), np.array([0, 0, 2, 1]), count=4)
    most = np.iinfo(np.uint64).max
    assert table.tolist() == [[1, 7, 9], [most] * 3, [4, most, most], [most] * 3]
    assert rowwise(keys[:0], np.zeros(0, int), np.zeros(0, int), count=2).shape == (2, 0)

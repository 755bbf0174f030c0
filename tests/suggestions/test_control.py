import numpy as np
import pytest
from made import as_suggestions

from usl_backend.errors import InputError
from usl_backend.suggestions import Control
from usl_backend.suggestions.control import judge


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        ([1, 2], [0], "control has 2 rows but 1 labels"),
        ([1, 4, 1], [0, 1, 1], "control names row 1 twice"),
        ([1, 2], [0, -1], "control labels hold -1"),
        ([1.0, 2.0], [0, 1], "control rows are float64"),
        (
            list(range(10)),
            [3] * 10,
            "all 10 control labels are of class 3: they say nothing about the others",
        ),
    ],
)
def test_control__refuses_what_is_no_control_set(rows, labels, message):
    with pytest.raises(InputError, match=message):
        Control(np.array(rows), np.array(labels))


def test_control__nothing_and_a_few_of_one_class_are_possible():
    assert len(Control(np.array([]), np.array([])).rows) == 0
    assert len(Control(np.arange(9), np.full(9, 3)).rows) == 9


def test_judge__ranks_by_confidence_and_leaves_given_labels_out():
    suggestions = as_suggestions([0, 1, 0, 1, 0], [0.2, 0.9, 1.0, 0.9, 0.5], np.arange(5) == 2)
    found = judge(suggestions, Control(np.array([4, 3, 2, 1, 0]), np.array([0, 1, 1, 0, 0])))
    assert found.rows.tolist() == [1, 3, 4, 0]
    assert found.right.tolist() == [False, True, True, True]


def test_judge__row_of_another_pool_is_named():
    with pytest.raises(InputError, match="control names row 5 but the pool has rows 0 to 4"):
        judge(as_suggestions([0] * 5, [0.5] * 5), Control(np.array([2, 5]), np.array([0, 1])))

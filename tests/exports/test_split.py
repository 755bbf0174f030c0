import pytest

from usl_backend.errors import ExportError
from usl_backend.exports import Row, Split
from usl_backend.exports.split import including_labeled


def test_split__label_outside_the_classes_is_refused() -> None:
    with pytest.raises(ExportError, match=r"label 'dog' is not among the classes \(cat\)"):
        Split(labeled=(Row(0, 1, "a.png", label="dog"),), unlabeled=(), classes=("cat",))


def test_including_labeled__in_index_order_and_without_labels() -> None:
    labeled = [Row(1, 11, "b.png", "pick", 0, "cat")]
    unlabeled = [Row(0, 10, "a.png"), Row(2, 12, "c.png", "reserve", 1)]
    assert including_labeled(unlabeled, labeled) == (
        Row(0, 10, "a.png"),
        Row(1, 11, "b.png", "pick", 0, None),
        Row(2, 12, "c.png", "reserve", 1),
    )

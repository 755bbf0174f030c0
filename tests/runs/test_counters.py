import threading
from contextlib import closing

import pytest

from usl_backend.runs import RunStore
from usl_backend.runs.counters import Count


@pytest.fixture
def store(tmp_path):
    with closing(RunStore(tmp_path)) as store:
        yield store


def test_add_counts__sums_by_name_and_labels(store):
    store.add_counts([Count("items", 3, {"outcome": "read"}), Count("items", 1, {"outcome": "skipped"})])
    store.add_counts([Count("items", 4, {"outcome": "read"}), Count("retries", 1, {})])
    assert store.counts() == [
        Count("items", 7, {"outcome": "read"}),
        Count("items", 1, {"outcome": "skipped"}),
        Count("retries", 1, {}),
    ]


def test_add_counts__nothing_is_lost_between_stores(tmp_path):
    def count():
        with closing(RunStore(tmp_path)) as store:
            for _ in range(20):
                store.add_counts([Count("items", 1, {"a": "b"})])

    threads = [threading.Thread(target=count) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(RunStore(tmp_path)) as store:
        assert store.counts() == [Count("items", 100, {"a": "b"})]

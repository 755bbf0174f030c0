from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usl_backend.errors import InputError
from usl_backend.runs import RunStore
from usl_backend.runs.summary import ProjectNote, Summary
from usl_backend.settings.ids import MOST_IDS


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with closing(RunStore(tmp_path_factory.mktemp("data"))) as store:
        yield store


CHANGES = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["pin", "exclude"]), st.lists(st.integers(1, 5), max_size=3)),
    max_size=6,
)


@given(changes=CHANGES)
def test_wishes__the_last_one_about_a_task_holds(store, changes):
    store.remove_wishes("12.100", range(1, 6), "pin")
    store.remove_wishes("12.100", range(1, 6), "exclude")
    expected = {}
    for add, wish, tasks in changes:
        (store.add_wishes if add else store.remove_wishes)("12.100", tasks, wish)
        for task in tasks:
            if add and expected.get(task) != wish:
                expected.pop(task, None)  # a changed wish goes to the end
                expected[task] = wish
            elif not add and expected.get(task) == wish:
                del expected[task]
    found = store.wishes("12.100")
    assert found.pinned == tuple(task for task, wish in expected.items() if wish == "pin")
    assert found.excluded == tuple(task for task, wish in expected.items() if wish == "exclude")
    assert store.wishes("12.101").pinned == (), "another project of the same id"


def test_wishes__more_than_a_run_takes(store):
    store.add_wishes("13.100", range(MOST_IDS), "exclude")
    with pytest.raises(InputError, match=r"10,001 tasks would be excluded"):
        store.add_wishes("13.100", [MOST_IDS], "exclude")
    assert len(store.wishes("13.100").excluded) == MOST_IDS


def test_key_of__by_the_last_connection_else_by_the_newest_run_that_knows_it(store):
    assert store.key_of(14) == ""
    store.add_wishes("14.50", [1], "pin")
    store.add_wishes("14.60", [1], "pin")
    store.add_wishes("141.70", [1], "pin")
    assert store.key_of(14) == "14.60", (
        "its wishes count for the first run that is started by the bare number"
    )
    store.remove_wishes("14.60", [1], "pin")
    store.remove_wishes("14.50", [1], "pin")
    run = store.create(project=14, settings={})
    store.claim(run.id)
    assert store.key_of(14) == ""
    store.finish(run.id, Summary(project=ProjectNote(14, "14.100", "t", "image")))
    store.create(project=14, settings={})
    assert store.key_of(14) == "14.100", "the run itself was made without it"
    store.remember_setup(14, "14.200")
    assert store.key_of(14) == "14.200"

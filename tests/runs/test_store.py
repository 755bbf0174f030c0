import sqlite3
import threading
from contextlib import closing

import pytest

from usl_backend.errors import ActiveRunError, RunError, StorageError, UnknownRunError
from usl_backend.instances import QueueState
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.projects import learned_addresses, remembered_setup
from usl_backend.runs.summary import Summary


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "data")
    yield store
    store.close()


def _create(store, project=12, **more):
    return store.create(project=project, settings={"budget": "10"}, **more)


def test_database__one_that_is_damaged_is_named_with_a_remedy(store):
    _create(store)
    directory, path = store.directory, store.path
    store.close()
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes([255]) * (len(content) - 4096))
    with closing(RunStore(directory)) as damaged:
        for use in (damaged.list, lambda: damaged.setup(12), lambda: _create(damaged)):
            with pytest.raises(StorageError, match=r"usl\.sqlite3 is damaged \(.*malformed\); put a copy"):
                use()
    path.write_bytes(b"something else " * 1000)
    with pytest.raises(StorageError, match=r"usl\.sqlite3 is damaged \(file is not a database\)"):
        RunStore(directory)


def test_create__is_read_back_whole(store):
    run = _create(store, project_key="12.5", dry_run=True)
    assert run.id == "12-1"
    assert store.get("12-1") == run
    assert run.state is RunState.QUEUED


def test_create__second_of_a_project_is_refused_by_name(store):
    _create(store)
    with pytest.raises(ActiveRunError, match="run 12-1 of project 12 is queued") as caught:
        _create(store)
    assert caught.value.run_id == "12-1"
    assert len(store.list()) == 1


def test_create__many_at_once_make_one_run(store):
    barrier = threading.Barrier(8)
    made, refused = [], []

    def press():
        barrier.wait()
        try:
            made.append(_create(store).id)
        except ActiveRunError:
            refused.append(1)

    threads = [threading.Thread(target=press) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["12-1"]
    assert len(refused) == 7


def test_create__a_failed_one_never_blocks(store):
    failed = _create(store, error={"type": "SettingsError", "message": "budget is x"})
    assert failed.state is RunState.FAILED
    assert store.get(failed.id).error == {"type": "SettingsError", "message": "budget is x"}
    assert _create(store).id == "12-2"


def test_numbers__are_never_given_twice(store):
    store.cancel(_create(store).id)
    with sqlite3.connect(store.path) as sql:
        sql.execute("DELETE FROM runs")
    sql.close()
    assert _create(store).id == "12-2"


def test_claim_next__oldest_first_and_no_more_than_allowed(store):
    _create(store, project=2)
    _create(store, project=1)
    first = store.claim_next(1)
    assert (first.id, first.state, first.attempts) == ("2-1", RunState.RUNNING, 1)
    assert store.claim_next(1) is None
    assert store.claim_next(2).id == "1-1"
    assert store.claim_next(9) is None


def test_claim_next__leaves_the_shell_its_runs(store):
    run = _create(store, place="shell")
    assert store.claim_next(1) is None
    assert store.claim(run.id).state is RunState.RUNNING
    with pytest.raises(RunError, match="is running, not queued"):
        store.claim(run.id)


def test_progress__false_once_cancelled(store):
    run = _create(store)
    assert not store.progress(run.id, "fetch", 1, 2)
    store.claim_next(1)
    assert store.progress(run.id, "embed", 1, 2, "reading")
    seen = store.get(run.id)
    assert (seen.stage, seen.done, seen.total, seen.step) == ("embed", 1, 2, "reading")
    store.cancel(run.id)
    assert not store.progress(run.id, "embed", 2, 2)
    assert not store.beat(run.id)
    assert not store.finish(run.id, Summary())
    assert store.get(run.id).state is RunState.CANCELLED


def test_amend__changes_what_is_named_and_keeps_what_another_process_has_changed(store):
    run = _create(store)
    assert not store.amend(run.id, reserve=5)
    store.claim_next(1)
    store.finish(run.id, Summary(picks=10, reserve=20, model_version="usl-12-1"))
    with closing(RunStore(store.directory)) as other:
        assert other.amend(run.id, model_version="usl-suggest-12-1")
    assert store.amend(run.id, reserve=5)
    assert store.get(run.id).summary == Summary(picks=10, reserve=5, model_version="usl-suggest-12-1")
    with pytest.raises(UnknownRunError):
        store.amend("12-9", reserve=5)


def test_finish__keeps_what_the_run_reports(store):
    run = _create(store)
    store.claim_next(1)
    assert store.finish(run.id, Summary(picks=10), "ab", {"torch": "2"})
    done = store.get(run.id)
    assert (done.state, done.summary, done.pool_digest, done.versions) == (
        RunState.DONE,
        Summary(picks=10),
        "ab",
        {"torch": "2"},
    )
    assert done.finished_at >= done.started_at >= done.created_at
    with pytest.raises(RunError, match="is done; only a queued or running run can be cancelled"):
        store.cancel(run.id)


def test_requeue__counts_attempts_unless_blameless(store):
    run = _create(store)
    store.claim_next(1)
    assert store.requeue(run.id)
    assert store.claim_next(1).attempts == 2
    assert store.requeue(run.id, blameless=True)
    assert store.claim_next(1).attempts == 2
    store.cancel(run.id)
    assert not store.requeue(run.id)


def test_resume__only_what_failed_or_was_cancelled(store):
    run = _create(store)
    with pytest.raises(RunError, match="is queued; only a paused, failed or cancelled"):
        store.resume(run.id)
    store.claim_next(1)
    store.fail(run.id, "MediaError", "no")
    resumed = store.resume(run.id)
    assert (resumed.state, resumed.error, resumed.attempts) == (RunState.QUEUED, None, 0)


def test_resume__not_beside_another(store):
    first = _create(store)
    store.cancel(first.id)
    _create(store)
    with pytest.raises(ActiveRunError):
        store.resume(first.id)


def test_get__unknown_run(store):
    with pytest.raises(RunError, match='no run "12-9"'):
        store.get("12-9")


@pytest.mark.parametrize("run_id", ["", "12", "../12-7", "12-7/..", "12-", "-7", "a-b", "1-2-3", "12-٣"])
def test_run_directory__refuses_what_is_no_id(store, run_id):
    with pytest.raises(RunError, match="is not a run id"):
        store.run_directory(run_id)


def test_list__newest_first_and_filtered(store):
    for project in (1, 2, 3):
        _create(store, project=project)
    store.cancel("2-1")
    assert [run.id for run in store.list()] == ["3-1", "2-1", "1-1"]
    assert [run.id for run in store.list(state=RunState.QUEUED)] == ["3-1", "1-1"]
    assert [run.id for run in store.list(project=2)] == ["2-1"]
    assert store.latest(2, RunState.DONE) is None
    assert store.latest(2).id == "2-1"


def test_setup__last_one_wins_and_repeats_write_nothing(store):
    assert store.remember_setup(12, "12.5", extra_params={"budget": 1}, label_config="<View/>")
    assert not store.remember_setup(12, "12.5", extra_params={"budget": 1}, label_config="<View/>")
    assert store.remember_setup(12, "12.5", extra_params={"budget": 2}, label_config="<View/>")
    assert store.setup(12).extra_params == {"budget": 2}


def test_setup__of_a_recreated_project_is_not_the_old_one(store):
    store.remember_setup(12, "12.5", extra_params={"budget": 1})
    assert store.setup(12, "12.6") is None
    store.remember_setup(12, "12.6", extra_params={"budget": 2})
    assert store.setup(12).extra_params == {"budget": 2}
    assert store.setup(12, "12.5").extra_params == {"budget": 1}
    store.remember_setup(12, "12.5", extra_params={"budget": 1})
    assert store.setup(12).project_key == "12.5"


def test_setup__refused_never_replaces_accepted(store):
    store.remember_setup(12, "12.5", refused="no")
    assert store.setup(12).refused == "no"
    store.remember_setup(12, "12.5", extra_params={"budget": 1})
    assert store.setup(12).refused is None
    assert not store.remember_setup(12, "12.5", refused="no")
    assert store.setup(12).extra_params == {"budget": 1}


def test_setup__public_address_of_label_studio_is_kept_until_another_is_told(store, tmp_path):
    assert store.remember_setup(12, "12.5", hostname="http://localhost:8080")
    assert not store.remember_setup(12, "12.5", hostname="http://localhost:8080")
    assert not store.remember_setup(12, "12.5")
    store.remember_setup(13, "13.5", hostname="https://host/ls")
    store.remember_setup(14, "14.5", hostname="http://localhost:8080")
    store.remember_setup(15, "15.5")
    assert store.setup(12).hostname == "http://localhost:8080"
    assert store.public_addresses() == ("http://localhost:8080", "https://host/ls")
    assert learned_addresses(store.directory) == store.public_addresses()
    assert remembered_setup(store.directory, 13, "13.5") == store.setup(13)


def test_learned_addresses__makes_nothing(tmp_path):
    assert learned_addresses(tmp_path / "none") == ()
    assert remembered_setup(tmp_path / "none", 12, "12.5") is None
    assert not (tmp_path / "none").exists()


def test_queue_state__of_each_project_key(store):
    assert store.queue_state("12.5") is None
    state = QueueState("12-1", "usl-12-1", "Uncertainty sampling", 3, None, "Sequential sampling", None)
    store.save_queue_state("12.5", state)
    assert store.queue_state("12.5") == state
    assert store.queue_state("12.6") is None
    store.save_queue_state("12.5", None)
    assert store.queue_state("12.5") is None


def test_store__survives_a_restart(tmp_path):
    first = RunStore(tmp_path)
    run = _create(first)
    first.close()
    second = RunStore(tmp_path)
    assert second.get(run.id) == run
    second.close()


def test_store__two_processes_may_open_a_new_directory_at_once(tmp_path):
    barrier, stores = threading.Barrier(4), []

    def open_store():
        barrier.wait()
        stores.append(RunStore(tmp_path))

    threads = [threading.Thread(target=open_store) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 4
    for store in stores:
        store.close()


def test_store__newer_layout_is_refused(tmp_path):
    RunStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "usl.sqlite3") as sql:
        sql.execute("PRAGMA user_version = 99")
    sql.close()
    with pytest.raises(RunError, match="layout 99"):
        RunStore(tmp_path)


def test_store__corrupted_or_impossible_directory_names_the_remedy(tmp_path):
    (tmp_path / "usl.sqlite3").write_bytes(b"not a database" * 1000)
    with pytest.raises(RunError, match="set MODEL_DIR"):
        RunStore(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="set MODEL_DIR"):
        RunStore(tmp_path / "file")


def test_store__its_file_is_its_owners_alone(store):
    assert store.path.stat().st_mode & 0o077 == 0


def test_fail__a_message_that_is_no_proper_text_is_kept_readable(store):
    run = _create(store)
    store.fail(run.id, "OSError", "no file b\udcff")
    assert store.get(run.id).error["message"] == "no file b\\udcff"

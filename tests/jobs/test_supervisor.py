import os
import signal
import subprocess
import sys

import pytest

from usl_backend.errors import ActiveRunError, RunError, SettingsError
from usl_backend.jobs import Jobs
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.lock import Lock, held, holder
from usl_backend.runs.summary import Summary


def _seed(jobs, seed, project=12):
    return jobs.enqueue(project, explicit={"seed": seed}).id


def _over(store, run_id):
    return lambda: not store.get(run_id).state.is_active


def _began(store, run_id, times=1):
    log = store.files(run_id).log
    return lambda: log.exists() and log.read_text().count("began") >= times


def test_jobs__a_run_from_queue_to_done(jobs, store, wait_until):
    jobs.start()
    run_id = _seed(jobs, 0)
    wait_until(_over(store, run_id))
    run = store.get(run_id)
    assert run.state is RunState.DONE
    seen = run.summary.method.diagnostics
    assert seen["nice"] == min(19, os.nice(0) + 10)
    assert seen["session"]
    assert seen["argv"] == ["-c", run_id]
    assert seen["key"] == "tok-secret-123"
    assert seen["pass"] is None
    assert run.attempts == 1


def test_enqueue__bad_settings_queue_nothing(jobs, store):
    with pytest.raises(SettingsError, match='did you mean "budget"'):
        jobs.enqueue(12, explicit={"budegt": 3})
    assert store.list() == []


def test_enqueue__takes_the_projects_settings_and_key(jobs, store):
    store.remember_setup(12, "12.5", extra_params={"budget": "7", "seed": 3})
    run = jobs.enqueue(12, explicit={"seed": 4})
    assert (run.settings["budget"], run.settings["seed"], run.project_key) == ("7", 4, "12.5")


def test_enqueue__a_recreated_project_does_not_inherit(jobs, store):
    store.remember_setup(12, "12.5", extra_params={"budget": "7"})
    assert jobs.enqueue(12, project_key="12.6").settings["budget"] is None


def test_enqueue__without_a_token_says_so(store, host):
    jobs = Jobs(store, host.model_copy(update={"label_studio_api_key": type(host.label_studio_api_key)("")}))
    with pytest.raises(SettingsError, match="LABEL_STUDIO_API_KEY"):
        jobs.enqueue(12)


def test_start_training__what_cannot_start_is_written_down(jobs, store):
    store.remember_setup(12, "12.5", refused='unknown setting "budegt"')
    run = jobs.start_training(12, project_key="12.5")
    assert run.state is RunState.FAILED
    error = store.get(run.id).error
    assert error["type"] == "SettingsError"
    assert error["message"] == (
        'the extra params of project 12 are invalid: unknown setting "budegt"; correct them in Label Studio, '
        "Settings > Model"
    )
    with pytest.raises(RunError, match="has no valid settings"):
        jobs.resume(run.id)


def test_start_training__second_is_refused_by_name_even_with_bad_settings(jobs, store):
    store.create(project=12, settings={})
    with pytest.raises(ActiveRunError) as caught:
        jobs.start_training(12)
    assert caught.value.run_id == "12-1"
    store.remember_setup(12, "12.5", refused="no")
    with pytest.raises(ActiveRunError):
        jobs.start_training(12)
    assert len(store.list()) == 1


def test_jobs__one_at_a_time_oldest_first(jobs, store, wait_until):
    jobs.start()
    first, second, third = _seed(jobs, 1, project=1), _seed(jobs, 0, project=2), _seed(jobs, 0, project=3)
    wait_until(_began(store, first))
    assert [store.get(run).state for run in (second, third)] == [RunState.QUEUED] * 2
    jobs.cancel(first)
    wait_until(_over(store, third))
    assert store.get(second).started_at <= store.get(third).started_at
    assert store.get(second).state is RunState.DONE


def test_cancel__ends_the_process_and_frees_the_project_at_once(jobs, store, wait_until):
    jobs.start()
    run_id = _seed(jobs, 1)
    wait_until(_began(store, run_id))
    lock = store.files(run_id).lock
    assert held(lock)
    assert jobs.cancel(run_id).state is RunState.CANCELLED
    following = _seed(jobs, 0)
    wait_until(_over(store, following))
    assert not held(lock)
    assert store.get(run_id).state is RunState.CANCELLED
    assert store.get(following).state is RunState.DONE


def test_cancel__a_process_that_does_not_listen_is_killed(jobs, store, wait_until):
    jobs.start()
    run_id = _seed(jobs, 6)
    wait_until(
        lambda: "deaf" in store.files(run_id).log.read_text() if store.files(run_id).log.exists() else False
    )
    jobs.cancel(run_id)
    wait_until(lambda: not held(store.files(run_id).lock))
    assert store.get(run_id).state is RunState.CANCELLED


def test_resume__goes_on(jobs, store, wait_until):
    run_id = _seed(jobs, 0)
    jobs.cancel(run_id)
    jobs.start()
    assert jobs.resume(run_id).state is RunState.QUEUED
    wait_until(_over(store, run_id))
    assert store.get(run_id).state is RunState.DONE


def test_failure__is_a_sentence_without_secrets(jobs, store, wait_until):
    jobs.start()
    run_id = _seed(jobs, 2)
    wait_until(_over(store, run_id))
    run = store.get(run_id)
    assert run.state is RunState.FAILED
    assert run.error == {"type": "MediaError", "message": "cannot log in with ***"}
    assert "tok-secret" not in store.files(run_id).log.read_text()
    assert run.attempts == 1


def test_failure__unforeseen_keeps_its_trace_in_the_log(jobs, store, wait_until):
    jobs.start()
    run_id = _seed(jobs, 3)
    wait_until(_over(store, run_id))
    error = store.get(run_id).error
    assert error["type"] == "ZeroDivisionError"
    assert error["message"] == f"unexpected ZeroDivisionError: by zero; the trace is in {run_id}/log.txt"
    assert "Traceback" in store.files(run_id).log.read_text()


def test_death__is_tried_again(jobs, store, wait_until):
    jobs.start()
    run_id = _seed(jobs, 4)
    wait_until(_over(store, run_id))
    run = store.get(run_id)
    assert (run.state, run.attempts) == (RunState.DONE, 3)


def test_death__after_progress_counts_anew(jobs, store, wait_until):
    jobs.start()
    run_id = _seed(jobs, 8)
    wait_until(_over(store, run_id))
    assert store.get(run_id).state is RunState.DONE
    assert store.files(run_id).log.read_text().count("began") == 6


def test_start__paused_runs_go_on_unless_overtaken(jobs, store, wait_until):
    for project in (12, 13, 14):
        store.create(project=project, settings={"seed": 0}, place="shell" if project == 14 else "server")
        store.claim(f"{project}-1")
        store.pause(f"{project}-1", "StudioAuthError", "set LABEL_STUDIO_API_KEY")
    overtaking = _seed(jobs, 0, project=13)
    jobs.start()
    wait_until(_over(store, "12-1"))
    wait_until(_over(store, overtaking))
    states = {run.id: run.state for run in store.list()}
    assert states == {
        "12-1": RunState.DONE, "13-1": RunState.PAUSED, overtaking: RunState.DONE, "14-1": RunState.PAUSED,
    }  # fmt: skip


@pytest.mark.parametrize(("seed", "said"), [(5, "memory ran out"), (7, "exit code 7")])
def test_death__three_times_is_a_failure_that_says_how(jobs, store, wait_until, seed, said):
    jobs.start()
    run_id = _seed(jobs, seed)
    wait_until(_over(store, run_id))
    run = store.get(run_id)
    assert (run.state, run.attempts, run.error["type"]) == (RunState.FAILED, 3, "ProcessDied")
    assert said in run.error["message"]


def test_stop__queues_again_what_was_running(jobs, store, wait_until):
    jobs.start()
    run_id = _seed(jobs, 1)
    wait_until(_began(store, run_id))
    process = holder(store.files(run_id).lock)
    jobs.stop()
    run = store.get(run_id)
    assert (run.state, run.attempts) == (RunState.QUEUED, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    jobs.start()
    wait_until(_began(store, run_id, times=2))


def test_start__second_server_on_a_directory_is_refused(jobs, store, host):
    jobs.start()
    with pytest.raises(RunError, match="in use by another server"):
        Jobs(store, host).start()


def test_recover__a_run_whose_server_and_process_died_is_computed(jobs, store, wait_until):
    run_id = _seed(jobs, 0)
    store.claim_next(1)
    jobs.start()
    wait_until(_over(store, run_id))
    run = store.get(run_id)
    assert (run.state, run.attempts) == (RunState.DONE, 2)


def test_recover__a_process_that_outlived_its_server_is_left_alone(jobs, store, wait_until):
    run_id = _seed(jobs, 1)
    store.claim_next(1)
    with Lock(store.files(run_id).lock):
        jobs.start()
        following = _seed(jobs, 0, project=13)
        wait_until(lambda: jobs.is_alive)
        for _ in range(10):
            jobs._check()
        assert store.get(run_id).state is RunState.RUNNING
        assert store.get(following).state is RunState.QUEUED
        store.finish(run_id, Summary())
        wait_until(_over(store, following))


def test_recover__waits_for_the_last_process_of_a_project_to_leave(jobs, store, wait_until):
    old = _seed(jobs, 0)
    with Lock(store.files(old).lock):
        jobs.cancel(old)
        following = _seed(jobs, 0)
        # Looked at from here and not by the supervisor's thread: it is the only one that ever looks.
        for _ in range(10):
            jobs._check()
        assert store.get(following).state is RunState.QUEUED
        assert not store.files(following).log.exists()
    jobs.start()
    wait_until(_over(store, following))
    assert store.get(following).attempts == 1


def test_recover__a_shell_that_died_leaves_a_failed_run(jobs, store, wait_until):
    run = store.create(project=12, settings={"seed": 0}, place="shell")
    store.claim(run.id)
    jobs.start()
    wait_until(_over(store, run.id))
    assert store.get(run.id).error["type"] == "ProcessDied"


def test_killed_server__its_run_finishes_or_resumes(store, host, command, wait_until):
    """The real thing: kill -9 of a server process; the child lives on, and the next server takes over."""
    code = (
        "import sys, time\nfrom usl_backend.jobs import Jobs\nfrom usl_backend.runs import RunStore\n"
        "from usl_backend.settings import HostSettings\nhost = HostSettings.load()\n"
        "jobs = Jobs(RunStore(host.model_dir), host, command=(sys.executable, '-c', sys.argv[1]), interval=0.02)\n"
        "jobs.start()\njobs.enqueue(12, explicit={'seed': 1})\ntime.sleep(600)"
    )
    environment = {**os.environ, "MODEL_DIR": str(host.model_dir), "LABEL_STUDIO_API_KEY": host.api_key}
    with subprocess.Popen([sys.executable, "-c", code, command[-1]], env=environment) as server:
        wait_until(lambda: store.latest(12) is not None and _began(store, "12-1")())
        server.send_signal(signal.SIGKILL)
    lock = store.files("12-1").lock
    assert held(lock)
    second = RunStore(host.model_dir)
    jobs = Jobs(second, host, command=command, interval=0.02)
    jobs.start()
    try:
        os.kill(holder(lock), signal.SIGKILL)
        wait_until(_began(store, "12-1", times=2))
        assert store.get("12-1").attempts == 2
        jobs.cancel("12-1")
        wait_until(lambda: not held(lock))
    finally:
        jobs.stop()
        second.close()

"""A real child process with a computation whose behavior the run's seed chooses."""

import sys
import textwrap

import pytest

from usl_backend.jobs import Jobs
from usl_backend.runs import RunStore
from usl_backend.settings import HostSettings

PIPELINE = textwrap.dedent(
    """
    import os, signal, sys, time
    from usl_backend.errors import MediaError
    from usl_backend.jobs import work
    from usl_backend.runs import RunStore
    from usl_backend.runs.summary import MethodNote, Summary
    from usl_backend.settings import HostSettings

    host = HostSettings.load()
    store = RunStore(host.model_dir)

    def execute(run, progress):
        seed = run.settings["seed"]
        progress.stage("fetch")("listing tasks", 1, 1)
        print("began", os.getpid(), flush=True)
        if seed == 1:    # until it is told to stop
            for i in range(10**9):
                progress.stage("embed")("reading", i, 0)
                time.sleep(0.01)
        elif seed == 2:
            raise MediaError(f"cannot log in with {host.api_key}")
        elif seed == 3:
            raise ZeroDivisionError("by zero")
        elif seed == 4:  # dies in its first two attempts
            if run.attempts < 3:
                os.kill(os.getpid(), signal.SIGKILL)
        elif seed == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        elif seed == 6:  # does not listen
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("deaf", flush=True)
            time.sleep(60)
        elif seed == 7:
            os._exit(7)
        elif seed == 8:  # dies five times, but keeps something each second time
            times = open(os.path.join(store.run_directory(run.id), "log.txt")).read().count("began")
            if times % 2:
                progress.kept()
            if times < 6:
                os.kill(os.getpid(), signal.SIGKILL)
        seen = {
            "nice": os.nice(0), "session": os.getsid(0) == os.getpid(),
            "argv": sys.argv, "key": host.api_key, "pass": os.environ.get("BASIC_AUTH_PASS"),
        }
        store.finish(run.id, Summary(method=MethodNote(diagnostics=seen)))

    sys.exit(work(sys.argv[1], host=host, execute=execute))
    """
)


@pytest.fixture
def host(tmp_path):
    return HostSettings(
        label_studio_api_key="tok-secret-123", basic_auth_pass="pw-secret", model_dir=tmp_path / "data"
    )


@pytest.fixture
def store(host):
    store = RunStore(host.model_dir)
    yield store
    store.close()


@pytest.fixture
def command():
    return (sys.executable, "-c", PIPELINE)


@pytest.fixture
def jobs(store, host, command):
    jobs = Jobs(store, host, command=command, grace=2.0, interval=0.02)
    yield jobs
    jobs.stop()

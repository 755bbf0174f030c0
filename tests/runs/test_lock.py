import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from usl_backend.errors import RunError, StorageError
from usl_backend.runs.lock import Lock, held, holder


def test_lock__second_is_refused_and_names_the_holder(tmp_path):
    path = tmp_path / "lock"
    with Lock(path), pytest.raises(RunError, match=f"locked by process {os.getpid()}"):
        Lock(path)


def test_held__free_before_and_after(tmp_path):
    path = tmp_path / "lock"
    assert not held(path)
    with Lock(path):
        assert held(path)
        assert holder(path) == os.getpid()
    assert not held(path)


def test_lock__inherited_descriptor_keeps_it_until_the_child_dies(tmp_path):
    path = tmp_path / "lock"
    lock = Lock(path)
    command = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        command, pass_fds=[lock.descriptor], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"up\n"
        lock.close()
        assert held(path)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not held(path)


def test_lock__is_not_inherited_by_default(tmp_path):
    path = tmp_path / "lock"
    lock = Lock(path)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as child:
        lock.close()
        assert not held(path)
        child.stdin.close()
        child.wait()


def test_lock__asking_does_not_refuse_the_one_who_takes_it(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    code = (
        "import sys, pathlib\nfrom usl_backend.runs.lock import held\nprint('up', flush=True)\n"
        f"while True: held(pathlib.Path({str(path)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        try:
            for _ in range(50):
                Lock(path).close()
        finally:
            child.kill()


def test_holder__nonsense_is_nobody(tmp_path):
    path = tmp_path / "lock"
    assert holder(path) is None
    path.write_bytes(b"\xff\xfe")
    assert holder(path) is None


def test_lock__unwritable_place_names_the_remedy(tmp_path):
    with pytest.raises(RunError, match="check MODEL_DIR"):
        Lock(tmp_path / "missing" / "lock")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_lock__a_file_system_without_locks_is_named(tmp_path, monkeypatch, code):
    path = tmp_path / "server.lock"
    path.touch()

    def flock(descriptor, _):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for ask in (Lock, held):
        with pytest.raises(
            StorageError, match=r"no file locks.*set MODEL_DIR to a directory on a local disk"
        ):
            ask(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before

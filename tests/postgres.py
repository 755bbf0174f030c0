"""A private PostgreSQL of Debian's package, on the loopback, in a directory of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from usl_backend.demo.studio_server import free_port


def binaries() -> Path:
    """Where Debian's package puts its programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found, "PostgreSQL is not installed: apt-get install postgresql"
    return found[-1].parent


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """A running cluster, as variables of Label Studio; gone when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="usl-postgres-"))
    port = free_port()
    try:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        data, log = folder / "data", folder / "log.txt"
        secret = folder / "password"
        secret.write_text("label-studio")
        secret.chmod(0o644)
        _run("initdb", "-D", str(data), "-U", "studio", "-A", "scram-sha-256", f"--pwfile={secret}")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off -c max_connections=60"
        _run("pg_ctl", "-D", str(data), "-l", str(log), "-o", options, "-w", "start")
        try:
            yield {
                "DJANGO_DB": "default",
                "POSTGRE_NAME": "postgres",
                "POSTGRE_USER": "studio",
                "POSTGRE_PASSWORD": "label-studio",
                "POSTGRE_HOST": "127.0.0.1",
                "POSTGRE_PORT": str(port),
            }
        finally:
            _run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: str, *arguments: str) -> None:
    """One of PostgreSQL's programs; what it says goes to a file, because a server it starts would keep a pipe open."""
    prefix: Sequence[str] = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(
            [*prefix, str(binaries() / program), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd="/",
        )
        said.seek(0)
        assert done.returncode == 0, f"{program} failed: {said.read()}"

"""Start and stop a local Label Studio for the demo and the live tests.

Its environment suits a private machine: SQLite in the data directory, legacy tokens enabled, ML backends on loopback
addresses allowed, local files served, telemetry off.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from usl_backend.demo import child
from usl_backend.errors import InputError, StudioError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HOST = "127.0.0.1"
LOG_NAME = "label-studio.log"
# The user's own Label Studio or database settings must not affect this server.
_FOREIGN_PREFIXES = (
    "LABEL_STUDIO_",
    "HEARTEX_",
    "DJANGO_",
    "DATABASE_",
    "POSTGRE",
    "MYSQL_",
    "REDIS_",
    "STORAGE_",
)
_FOREIGN_NAMES = frozenset({"HOST", "PORT", "USERNAME", "PASSWORD", "USER_TOKEN", "SECRET_KEY", "DEBUG"})


def free_port() -> int:
    """Return a TCP port on the loopback address that is free at the moment.

    Returns
    -------
    int
        Port number, 1024-65535.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Return True if a server can listen at this TCP port on the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do, so that a lingering connection of the last start does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def check_free(port: int) -> None:
    """Raise InputError unless a server can listen at this TCP port on the loopback address."""
    if not is_free(port):
        raise InputError(f"port {port} on {HOST} is in use; choose another one")


def find_executable() -> Path:
    """Return the path of the `label-studio` command in this Python environment.

    Returns
    -------
    Path
        `label-studio` in the folder of `sys.executable`.

    Raises
    ------
    InputError
        Label Studio is not installed there.
    """
    # Not resolved: the python of a virtual environment is a link to a file outside.
    executable = Path(sys.executable).with_name("label-studio")
    if not executable.exists():
        raise InputError(
            f"Label Studio is not installed in this environment ({executable} does not exist);"
            ' install it with: pip install "usl-backend[demo]"'
        )
    return executable


class LabelStudioServer(child.ChildServer):
    """Label Studio in a child process, as a context manager.

    Parameters
    ----------
    data_directory
        Directory of Label Studio's database and uploads; created if missing. The first start runs the migrations,
        which takes about half a minute; later starts take seconds.
    port
        TCP port on 127.0.0.1; by default a free one.
    documents_root
        Directory that `/data/local-files/` may serve; by default `<data_directory>/documents`.
    username, password, token
        The administrator's e-mail address, password and legacy token (40 hexadecimal characters). They take
        effect when the directory is first used; later starts must give the same token.
    executable
        The `label-studio` command; by default that of this environment.
    progress
        Called a few times a second while waiting, with the seconds waited so far.
    timeout
        Maximum seconds to wait until the server is ready.
    environment
        Further environment variables, which override those set here.

    Attributes
    ----------
    url : str
        `http://127.0.0.1:<port>`.
    log_path : Path
        Log file with Label Studio's output and errors.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        port: int | None = None,
        documents_root: Path | None = None,
        username: str,
        password: str,
        token: str,
        executable: Path | None = None,
        progress: Callable[[float], None] | None = None,
        timeout: float = 300.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data_directory = data_directory.absolute()
        self.port = free_port() if port is None else port
        super().__init__(
            "Label Studio",
            url=f"http://{HOST}:{self.port}",
            log_path=self.data_directory / LOG_NAME,
            failure=StudioError,
        )
        self.documents_root = (documents_root or self.data_directory / "documents").absolute()
        self.username, self.password, self.token = username, password, token
        self._executable = executable
        self._progress = progress
        self._timeout = timeout
        self._overrides = dict(environment or {})

    def start(self) -> None:
        """Start the server and wait until it responds.

        Raises
        ------
        InputError
            The command is missing, the port is in use, or the data directory was created with another token.
        StudioError
            The server ended or was not ready in time; the message has the end of its log.
        """
        executable = self._executable or find_executable()
        # Label Studio would silently use the next port, and requests would reach another program.
        check_free(self.port)
        self.data_directory.mkdir(parents=True, exist_ok=True)
        self.documents_root.mkdir(parents=True, exist_ok=True)
        command = [
            str(executable),
            "start",
            "--no-browser",
            "--internal-host",
            HOST,
            "--port",
            str(self.port),
        ]
        self._launch(
            command,
            environment=self._environment(),
            ready=self._healthy,
            within=self._timeout,
            progress=self._progress,
        )
        try:
            self._check_token()
        except BaseException:
            self.stop()
            raise

    def _environment(self) -> dict[str, str]:
        """Return this process's environment with this server's settings in place of other Label Studio settings."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_FOREIGN_PREFIXES) and name not in _FOREIGN_NAMES
        }
        return environment | {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.data_directory),
            "LABEL_STUDIO_HOST": self.url,
            # In the environment, because every user of the machine can read arguments.
            "LABEL_STUDIO_USERNAME": self.username,
            "LABEL_STUDIO_PASSWORD": self.password,
            "LABEL_STUDIO_USER_TOKEN": self.token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            # Since 1.23.1, ML backends on loopback are refused unless both are off.
            "ML_BLOCK_LOCAL_IP": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.documents_root),
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "LOG_LEVEL": "WARNING",
            "PYTHONUNBUFFERED": "1",
            **self._overrides,
        }

    def _check_token(self) -> None:
        """Raise InputError unless the data directory was created with this token."""
        answer = requests.get(
            f"{self.url}/api/current-user/whoami",
            headers={"Authorization": f"Token {self.token}"},
            timeout=60,
        )
        if answer.status_code == 401:
            raise InputError(
                f"{self.data_directory} was created with a different token;"
                " give that token or choose an empty directory"
            )

    def _healthy(self) -> bool:
        """Return True if /health returns 200."""
        try:
            return requests.get(f"{self.url}/health", timeout=10).status_code == 200
        except requests.RequestException:
            return False

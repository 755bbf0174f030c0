"""The backend as a child process, started as a user would and used over HTTP."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import requests

from usl_backend.demo.child import ChildServer
from usl_backend.demo.studio_server import HOST
from usl_backend.errors import RunError, StudioError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

READY_WITHIN = 120.0


class BackendServer(ChildServer):
    """`usl-backend serve` as a context manager.

    Parameters
    ----------
    data_directory
        The backend's MODEL_DIR; it has to exist.
    studio_url, api_key
        Address of Label Studio and token for it.
    port
        TCP port on 127.0.0.1.
    environment
        Further environment variables, which override the demo's.

    Attributes
    ----------
    url : str
        `http://127.0.0.1:<port>`.
    log_path : Path
        Log file with the server's output and errors.
    """

    def __init__(
        self,
        data_directory: Path,
        *,
        studio_url: str,
        api_key: str,
        port: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            "the backend",
            url=f"http://{HOST}:{port}",
            log_path=data_directory / "backend.log",
            failure=RunError,
        )
        self.data_directory = data_directory
        self.port = port
        self._studio_url, self._api_key = studio_url, api_key
        self._overrides = dict(environment or {})
        self._session = requests.Session()
        # A proxy or a .netrc entry of this host must not affect requests to the child process.
        self._session.trust_env = False

    def start(self) -> None:
        """Start the server and wait until it is ready.

        Raises
        ------
        RunError
            The server ended or was not ready in time; the message has the end of its log.
        """
        command = [sys.executable, "-m", "usl_backend", "serve", "--host", HOST, "--port", str(self.port)]
        self._launch(command, environment=self._environment(), ready=self._ready, within=READY_WITHIN)

    def stop(self) -> None:
        """Stop the server and its children, if it is running."""
        super().stop()
        self._session.close()

    def runs(self, project_id: int) -> list[dict[str, Any]]:
        """Return a project's runs as JSON, newest first."""
        return list(self._get("/usl/api/runs", project=project_id)["runs"])

    def run(self, run_id: str) -> dict[str, Any]:
        """Return one run as JSON."""
        return dict(self._get(f"/usl/api/runs/{run_id}"))

    def picks(self, run_id: str) -> list[int]:
        """Return the task ids of a run's picks in rank order, without the reserve."""
        queue = self._get(f"/usl/api/runs/{run_id}/picks")["picks"]
        chosen = [entry for entry in queue if entry["role"] == "pick"]
        return [int(entry["task"]) for entry in sorted(chosen, key=lambda entry: int(entry["rank"]))]

    def _get(self, path: str, **params: Any) -> Any:
        """Return the JSON of a route of the backend."""
        try:
            answer = self._session.get(self.url + path, params=params, timeout=30)
            answer.raise_for_status()
            return answer.json()
        except requests.RequestException as error:
            raise StudioError(f"the backend does not answer {path} ({error}); see {self.log_path}") from error

    def _environment(self) -> dict[str, str]:
        """Return this process's environment with the demo's settings in place of the user's."""
        foreign = ("LABEL_STUDIO_", "USL_", "BASIC_AUTH_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return environment | {
            "LABEL_STUDIO_URL": self._studio_url,
            # In the environment, because every user of the machine can read arguments.
            "LABEL_STUDIO_API_KEY": self._api_key,
            "MODEL_DIR": str(self.data_directory),
            "PYTHONUNBUFFERED": "1",
            **self._overrides,
        }

    def _ready(self) -> bool:
        """Return True if /readyz returns 200."""
        try:
            return self._session.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

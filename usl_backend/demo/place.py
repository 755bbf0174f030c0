"""Directory of a demo and the state that it keeps between starts."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from usl_backend.demo.studio_server import check_free, free_port, is_free
from usl_backend.errors import InputError

DEFAULT_DIRECTORY = Path("~/.local/share/usl-backend/demo")
USERNAME = "demo@example.com"


@dataclass(frozen=True)
class Memory:
    """State kept for the next start.

    Attributes
    ----------
    password, token
        Credentials of Label Studio's administrator, generated at the first start.
    studio_port, backend_port
        Ports, kept while they are free, so that links and the backend's connection stay valid.
    project
        Label Studio's project id; None until it exists.
    data
        Data set of the project, "images" or "text".
    """

    password: str
    token: str
    studio_port: int
    backend_port: int
    project: int | None = None
    data: str = "images"


class DemoPlace:
    """A demo's directory and its stored state.

    Parameters
    ----------
    directory
        Directory of the demo; created if missing, readable only by its owner.
    data
        Data set, "images" or "text"; a directory holds only one.

    Attributes
    ----------
    studio_directory, backend_directory, export_directory : Path
        Label Studio's data, the backend's data (MODEL_DIR), and the export that `--once` writes.
    lock_path : Path
        Locked while a demo runs there.
    memory : Memory
        Stored state; change it with `remember`.

    Raises
    ------
    InputError
        The directory cannot be used, or holds other files or the other data set.
    """

    def __init__(self, directory: Path, *, data: str = "images") -> None:
        self.data = data
        self.directory = directory.expanduser().absolute()
        self.studio_directory = self.directory / "label-studio"
        self.backend_directory = self.directory / "backend"
        self.export_directory = self.directory / "export"
        self.lock_path = self.directory / "demo.lock"
        self._memory_path = self.directory / "demo.json"
        try:
            present = {path.name for path in self.directory.iterdir()} if self.directory.is_dir() else set()
            # An interrupted first start may leave these before it stores its state.
            if self._memory_path.name not in present and present - {
                self.lock_path.name,
                self.backend_directory.name,
            }:
                raise InputError(
                    f"{self.directory} is not empty and holds no demo; choose another --data-directory"
                )
            self.backend_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.directory.chmod(0o700)
        except OSError as error:
            raise InputError(
                f"cannot use {self.directory} ({error.strerror}); choose another --data-directory"
            ) from None
        self.memory = self._read()
        if self.memory.data != data:
            raise InputError(
                f"{self.directory} holds a demo with --data {self.memory.data}; give that, or another --data-directory"
            )

    @property
    def is_new(self) -> bool:
        """True if Label Studio has never run here."""
        return not self.studio_directory.exists()

    def reserve_ports(self, studio: int | None = None, backend: int | None = None) -> Memory:
        """Choose and store the ports of this start.

        Parameters
        ----------
        studio, backend
            Ports chosen by the user; None for those of the last start if they are free, else others.

        Returns
        -------
        Memory
            The stored state, with the ports.

        Raises
        ------
        InputError
            A chosen port is in use, or chosen for both.
        """
        if studio is not None and studio == backend:
            raise InputError(f"port {studio} is given for both servers; give each its own")
        for port in (studio, backend):
            if port is not None:
                check_free(port)
        studio = studio or _still_free(self.memory.studio_port, taken=backend)
        backend = backend or _still_free(self.memory.backend_port, taken=studio)
        self.remember(studio_port=studio, backend_port=backend)
        return self.memory

    def remember(self, **changes: Any) -> Self:
        """Change the state and write it atomically."""
        self.memory = dataclasses.replace(self.memory, **changes)
        temporary = self._memory_path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self.memory), file, indent=2)
        temporary.replace(self._memory_path)
        return self

    def _read(self) -> Memory:
        """Read the state of the last start, or create a new one."""
        if not self._memory_path.exists():
            return Memory(
                password=secrets.token_urlsafe(9),
                token=secrets.token_hex(20),
                studio_port=free_port(),
                backend_port=free_port(),
                data=self.data,
            )
        try:
            return Memory(**json.loads(self._memory_path.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{self._memory_path} cannot be read ({error}); remove {self.directory} to start over"
            ) from None


def default_directory(data: str) -> Path:
    """Return the default directory of a demo with this data set."""
    return DEFAULT_DIRECTORY if data == "images" else DEFAULT_DIRECTORY.with_name(f"demo-{data}")


def _still_free(port: int, *, taken: int | None) -> int:
    """Return the port if it is free and not taken by the other server, else another one."""
    while port == taken or not is_free(port):
        port = free_port()
    return port

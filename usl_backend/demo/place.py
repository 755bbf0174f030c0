"""Where a demo lives on disk and what it remembers from one start to the next. Nothing is started here."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from usl_backend.demo.studio_server import HOST, free_port
from usl_backend.errors import InputError

DEFAULT_DIRECTORY = Path("~/.local/share/usl-backend/demo")
USERNAME = "demo@example.com"


@dataclass(frozen=True)
class Memory:
    """What the next start must know.

    Attributes
    ----------
    password, token
        Of Label Studio's administrator, made up at the first start.
    studio_port, backend_port
        Kept from start to start while they are free, so that links and the connected backend stay right.
    project
        Label Studio's project id; None until there is one.
    data
        What the project holds.
    """

    password: str
    token: str
    studio_port: int
    backend_port: int
    project: int | None = None
    data: str = "images"


class Place:
    """A demo's directory and its memory.

    Parameters
    ----------
    directory
        Created when missing, readable by its owner alone.
    data
        What is selected from there; a directory holds one kind only.

    Attributes
    ----------
    studio_directory, backend_directory, export_directory : Path
        Label Studio's data, the backend's data (MODEL_DIR), and the export that `--once` writes.
    lock_path : Path
        Held while a demo runs there.
    memory : Memory
        As read or made up; change it with `remember`.

    Raises
    ------
    InputError
        The directory cannot be used, or holds something else.
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
            # What a start that was broken off may leave before it remembers anything.
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
        """Whether Label Studio never ran here."""
        return not self.studio_directory.exists()

    def reserve_ports(self, studio: int | None = None, backend: int | None = None) -> Memory:
        """Settle the ports of this start.

        Parameters
        ----------
        studio, backend
            As the user wants them; None: those of the last start while nobody took them, else free ones.

        Returns
        -------
        Memory
            With the ports, as remembered.
        """
        self.remember(
            studio_port=studio or _still_free(self.memory.studio_port),
            backend_port=backend or _still_free(self.memory.backend_port),
        )
        return self.memory

    def remember(self, **changes: Any) -> Self:
        """Change the memory and write it, at once or not at all."""
        self.memory = dataclasses.replace(self.memory, **changes)
        temporary = self._memory_path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self.memory), file, indent=2)
        temporary.replace(self._memory_path)
        return self

    def _read(self) -> Memory:
        """The memory of the last start, or a new one."""
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
                f"{self._memory_path} cannot be read ({error}); remove {self.directory} to begin anew"
            ) from None


def default_directory(data: str) -> Path:
    """Where a demo of that data lives unless somebody says otherwise."""
    return DEFAULT_DIRECTORY if data == "images" else DEFAULT_DIRECTORY.with_name(f"demo-{data}")


def _still_free(port: int) -> int:
    """The port itself when it can be listened on, else another."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of the last start that lingers is no reason to move.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return free_port()
    return port

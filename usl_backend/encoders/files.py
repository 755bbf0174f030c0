"""Find and hash the files of weights and vectors that encoders name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Final

from usl_backend.errors import EncoderError

_CHUNK: Final = 1 << 20


def is_free_path(name: str) -> bool:
    """Return True if a path could lead out of the encoder directory: absolute, with `~`, `./`, `..` or NUL.

    Parameters
    ----------
    name
        The part of an encoder's name after the prefix, such as `moco.pt`.
    """
    path = PurePath(name)
    return path.is_absolute() or name.startswith(("~", "./")) or ".." in path.parts or "\0" in name


def find_file(name: str, *, directory: Path | None, encoder: str) -> Path:
    """Find a file that an encoder names.

    Free paths (`is_free_path`) are accepted: the settings decide who may give one. Any other name must stay below
    the directory, also through symbolic links.

    Parameters
    ----------
    name
        Path relative to `directory`, or a free path.
    directory
        The host's directory of weights and vectors, if configured.
    encoder
        The encoder's full name, for error messages.

    Returns
    -------
    Path
        An existing file, or a directory if the weights are several files.

    Raises
    ------
    EncoderError
        There is no such file, or a link leads out of the directory.
    """
    if is_free_path(name):
        path = Path(name).expanduser()
        if not path.exists():
            raise EncoderError(f"encoder {encoder} needs {path}, which does not exist; correct the path")
        return path
    if directory is None:
        raise EncoderError(
            f'encoder {encoder} needs the file "{name}", but no directory of encoder files is configured; '
            "set USL_ENCODER_DIR"
        )
    root = directory.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root):
        raise EncoderError(f'encoder {encoder}: "{name}" leads out of {directory}; put the file itself there')
    if not name or not path.exists():
        raise EncoderError(f'encoder {encoder} needs the file "{name}" in {directory}; put it there')
    return path


def first_existing(name: str, directories: Sequence[Path | None]) -> Path | None:
    """Return the file with that name in the first directory that has it, else None."""
    candidates = [directory / name for directory in directories if directory is not None]
    return next((path for path in candidates if path.is_file()), None)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of a directory's files with their names, in hexadecimal."""
    digest = hashlib.sha256()
    if path.is_file():
        _update(digest, path)
    else:
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            digest.update(os.fsencode(file.relative_to(path)) + b"\0")
            _update(digest, file)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, path: Path) -> None:
    """Add a file's bytes to a digest in chunks."""
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)


def hub_file(repository: str, name: str) -> Path | None:
    """Return a file of a repository such as `timm/resnet18.a1_in1k` in this host's Hugging Face cache.

    From the newest snapshot that has it; None if there is none.
    """
    paths = [snapshot / name for snapshot in hub_snapshots(repository)]
    return next((path for path in paths if path.is_file()), None)


def hub_snapshots(repository: str) -> list[Path]:
    """List the snapshots of a repository in this host's Hugging Face cache, newest first."""
    snapshots = hub_cache() / f"models--{repository.replace('/', '--')}" / "snapshots"
    return sorted(snapshots.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)


def hub_cache() -> Path:
    """Return this host's Hugging Face cache."""
    home = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub"
    return Path(home).expanduser()

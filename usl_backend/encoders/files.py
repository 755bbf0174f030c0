"""Where weights and vectors that an encoder names may lie; nothing of their content is understood here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Final

from usl_backend.errors import EncoderError

_CHUNK: Final = 1 << 20


def is_free_path(name: str) -> bool:
    """Whether a file's name could lead out of the encoders' directory: absolute, of the home, or climbing.

    Parameters
    ----------
    name
        What stands behind the prefix of an encoder, such as `moco.pt`.
    """
    path = PurePath(name)
    return path.is_absolute() or name.startswith(("~", "./")) or ".." in path.parts or "\0" in name


def find_file(name: str, *, directory: Path | None, encoder: str) -> Path:
    """Find a file that an encoder names.

    Whether a free path (`is_free_path`) is allowed is the settings' affair: they know who gave the name. Any
    other name stays below the directory, symbolic links included.

    Parameters
    ----------
    name
        Path relative to `directory`, or a free path.
    directory
        The host's directory of weights and vectors; None where there is none.
    encoder
        The encoder's whole name, for the message.

    Returns
    -------
    Path
        An existing file, or a directory where the weights are several files.

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
    """The file of that name in the first directory that has it."""
    candidates = [directory / name for directory in directories if directory is not None]
    return next((path for path in candidates if path.is_file()), None)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of a directory's files with their names, in hexadecimal.

    Parameters
    ----------
    path
        An existing file or directory.
    """
    digest = hashlib.sha256()
    if path.is_file():
        _feed(digest, path)
    else:
        for file in sorted(one for one in path.rglob("*") if one.is_file()):
            digest.update(os.fsencode(file.relative_to(path)) + b"\0")
            _feed(digest, file)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, path: Path) -> None:
    """Digest a file's bytes, piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)


def hub_file(repository: str, name: str) -> Path | None:
    """A file of a model in the Hugging Face hub's cache on this host, of its newest snapshot; None if absent.

    Parameters
    ----------
    repository
        Such as `timm/resnet18.a1_in1k`.
    name
        Of the file.
    """
    paths = [snapshot / name for snapshot in hub_snapshots(repository)]
    return next((path for path in paths if path.is_file()), None)


def hub_snapshots(repository: str) -> list[Path]:
    """Snapshots of a model in the Hugging Face hub's cache on this host, newest first."""
    home = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub"
    snapshots = Path(home).expanduser() / f"models--{repository.replace('/', '--')}" / "snapshots"
    return sorted(snapshots.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)

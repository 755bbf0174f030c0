"""Checks of this host: data directory, encoder, settings, running server."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

from usl_backend.doctor.check import Check
from usl_backend.encoders import DEFAULTS
from usl_backend.encoders.engines import (
    REFERENCE,
    Engine,
    choose_engine,
    import_openvino,
    installed_version,
)
from usl_backend.errors import USLError
from usl_backend.media import unused_proxies
from usl_backend.settings import HostSettings, RunSettings

_DISK_FREE = 2 * 2**30
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "afs",
        "ceph",
        "glusterfs",
    }
)


def check_directory(directory: Path) -> list[Check]:
    """Check that the data directory is writable, is on a local disk and has free space.

    Parameters
    ----------
    directory
        `MODEL_DIR`; it need not exist yet.

    Returns
    -------
    list of Check
        `data directory` and `disk space`.
    """
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        remedy = "set MODEL_DIR to a directory where this user has write permission"
        return [Check("data directory", "failed", f"{existing} cannot be written to", remedy)]
    kind = file_system(existing)
    if kind in _NETWORK_FILE_SYSTEMS:
        local = Check(
            "data directory",
            "failed",
            f"{directory} is on a network file system ({kind}), where SQLite and file locks are not safe",
            "set MODEL_DIR to a directory on a local disk",
        )
    else:
        local = Check("data directory", "ok", f"{directory} is on a local disk ({kind or 'kind unknown'})")
    free = shutil.disk_usage(existing).free
    text = f"{free / 2**30:.1f} GiB free at {existing}"
    if free >= _DISK_FREE:
        return [local, Check("disk space", "ok", text)]
    remedy = (
        f"free {_DISK_FREE / 2**30:.0f} GiB there, run `usl-backend gc`, or set MODEL_DIR to another disk"
    )
    return [local, Check("disk space", "warning", text, remedy)]


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the file system type of a path.

    Parameters
    ----------
    path
        Existing path.
    mounts
        The kernel's list of mounts.

    Returns
    -------
    str
        Type such as `ext4` or `nfs4`; empty if the list does not exist.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        # Later lines shadow earlier ones at the same point.
        if path.resolve().is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def check_encoder(name: str, directory: Path | None = None, *, engine: Engine = REFERENCE) -> list[Check]:
    """Check that an encoder and its weights are installed.

    Parameters
    ----------
    name
        Name of the encoder.
    directory
        The host's directory of weights and vectors.
    engine
        What computes it.

    Returns
    -------
    list of Check
        `encoder`.
    """
    from usl_backend import encoders

    try:
        if encoders.family_of(name).modality is None:
            return [Check("encoder", "ok", f"{name} reads stored vectors and needs no weights")]
        encoder = encoders.load(name, directory=directory, engine=engine)
    except USLError as error:
        return [
            Check(
                "encoder",
                "failed",
                str(error),
                "or unset USL_ENCODER",
            )
        ]
    by = "" if encoders.has_own_engine(name) else f", computed by {getattr(encoder, 'engine', engine)}"
    return [Check("encoder", "ok", f"{name} and its weights are installed ({encoder.dim} dimensions{by})")]


def check_engine(settings: RunSettings) -> tuple[list[Check], Engine]:
    """Check the engine of encoders.

    Returns
    -------
    list of Check
        `engine`, unless all is well: the line of the encoder names it.
    Engine
        The engine that runs would have; torch if it cannot be chosen.
    """
    try:
        engine = choose_engine(settings.engine, settings.precision)
        if settings.engine == "auto" and installed_version() is not None:
            import_openvino()
    except USLError as error:
        failed = settings.engine == "openvino" or settings.precision != REFERENCE.precision
        remedy = (
            "see the message, or unset USL_ENGINE and USL_PRECISION" if failed else "or uninstall openvino"
        )
        return [Check("engine", "failed" if failed else "warning", str(error), remedy)], REFERENCE
    return [], engine


def check_proxies() -> list[Check]:
    """Tell that media are fetched without a proxy, where the environment names one."""
    names = unused_proxies()
    if not names:
        return []
    return [
        Check(
            "proxy",
            "warning",
            f"{', '.join(names)} is set: Label Studio is asked through the proxy unless NO_PROXY names its host, but "
            "media are fetched without it, because it would connect to addresses that nobody checked",
            "let this machine connect to the hosts of the media, or have Label Studio's own storage deliver them",
        )
    ]


def check_settings(host: HostSettings) -> list[Check]:
    """Check the run settings in the environment and their encoder."""
    try:
        settings = RunSettings.resolve()
        found, engine = check_engine(settings)
        name = settings.encoder or DEFAULTS["image"]
        return [*found, *check_encoder(name, host.encoders, engine=engine)]
    except USLError as error:
        return [Check("settings", "failed", str(error), "correct or unset this variable")]


def check_backend_running(host: HostSettings) -> list[Check]:
    """Check whether this backend's server is listening, seen from this host.

    Parameters
    ----------
    host
        Gives the server's address.

    Returns
    -------
    list of Check
        `backend server`.
    """
    name = "127.0.0.1" if host.host in {"0.0.0.0", "::", ""} else host.host  # noqa: S104 - compared, not bound  # nosec B104
    try:
        with socket.create_connection((name, host.port), timeout=2):
            return [Check("backend server", "ok", f"something listens at {name}:{host.port}")]
    except OSError as error:
        detail = f"nothing listens at {name}:{host.port} ({error.strerror or error})"
        return [Check("backend server", "warning", detail, "usl-backend serve")]


def backend_address(host: HostSettings) -> str:
    """Return the address of this backend for others: `public_url`, or else host and port.

    Parameters
    ----------
    host
        Gives the addresses.

    Returns
    -------
    str
        URL without a trailing slash.
    """
    if host.public_url:
        return host.public_url
    name = "127.0.0.1" if host.host in {"0.0.0.0", "::", ""} else host.host  # noqa: S104 - compared, not bound  # nosec B104
    return f"http://{f'[{name}]' if ':' in name else name}:{host.port}"

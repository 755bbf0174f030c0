"""Looks whether a run can succeed here, and says what to do where it cannot; changes nothing but in `connect`.

Every check is a function of its own that returns `Check` lines and raises nothing of this package.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from usl_backend.errors import StudioAuthError, StudioError, USLError
from usl_backend.media import MediaLimits, MediaReader, decode_image
from usl_backend.settings import HostSettings, RunSettings
from usl_backend.studio import backend as studio_backend
from usl_backend.studio import label_config, preannotations
from usl_backend.studio.client import Project, StudioClient, Task
from usl_backend.studio.model_versions import is_ours
from usl_backend.studio.queue import CARRIED_SCORE, SAMPLING

Status = Literal["ok", "warning", "failed"]

OLDEST_STUDIO = (1, 20)
_MEDIA_TRIED = 3
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


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis.

    Attributes
    ----------
    name
        What was looked at.
    status
        `ok`; `warning`: runs, but not as one might expect; `failed`: a run would fail.
    detail
        What was found.
    remedy
        What to do, to be copied; empty when all is well.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def diagnose(
    host: HostSettings,
    project_id: int | None = None,
    *,
    backend_url: str | None = None,
    studio_url: str | None = None,
) -> list[Check]:
    """Look at this host, at Label Studio and, if one is named, at a project.

    Parameters
    ----------
    host
        Addresses, token and directories.
    project_id
        Label Studio's project; None looks at what all projects need.
    backend_url
        Address of this backend as Label Studio sees it; derived from the settings when None.
    studio_url
        Address of Label Studio that the user named; refused unless it is the configured one.

    Returns
    -------
    list of Check
        In the order in which one would mend things.
    """
    found = [*check_directory(host.model_dir), *_check_settings()]
    try:
        client = StudioClient.from_settings(host, url=studio_url)
    except USLError as error:
        return [*found, Check("Label Studio settings", "failed", str(error), _remedy(error))]
    url = backend_url or backend_address(host)
    with client:
        lines = [*check_studio(client), *check_backend_running(host)]
        found += lines
        if any(line.status == "failed" and line.name in {"Label Studio", "token"} for line in lines):
            return found
        if project_id is None:
            return found
        try:
            project = client.project(project_id)
        except USLError as error:
            return [
                *found,
                Check("project", "failed", str(error), f"open {client.url}/projects and look for its number"),
            ]
        return found + check_project(client, project, host, url)


def connect(
    host: HostSettings,
    project_id: int,
    *,
    backend_url: str | None = None,
    extra_params: Mapping[str, Any] | None = None,
    studio_url: str | None = None,
) -> list[Check]:
    """Connect this backend to a project as the UI does, and look at the project.

    Parameters
    ----------
    host
        Addresses, token and basic auth.
    project_id
        Label Studio's project.
    backend_url
        Address of this backend as Label Studio sees it; derived from the settings when None.
    extra_params
        Settings of the project's runs, such as `{"budget": 100}`.
    studio_url
        Address of Label Studio that the user named; refused unless it is the configured one.

    Returns
    -------
    list of Check
        Of the project, the first about the connection.

    Raises
    ------
    USLError
        It could not be connected; the message says what to do.
    """
    url = backend_url or backend_address(host)
    password = host.basic_auth_pass.get_secret_value()
    basic_auth = (host.basic_auth_user, password) if host.basic_auth_user else None
    with StudioClient.from_settings(host, url=studio_url) as client:
        project = client.project(project_id)
        made = studio_backend.connect(
            client, project_id, url, basic_auth=basic_auth, extra_params=extra_params
        )
        verb = "connected" if made.created else "updated the connection of"
        line = Check("connection", "ok", f"{verb} {url} to project {project_id} ({project.title!r})")
        return [line, *check_project(client, client.project(project_id), host, url)]


def backend_address(host: HostSettings) -> str:
    """Address of this backend for others: `public_url`, else host and port.

    Parameters
    ----------
    host
        The settings.

    Returns
    -------
    str
        Without a trailing slash.
    """
    if host.public_url:
        return host.public_url
    name = "127.0.0.1" if host.host in {"0.0.0.0", "::", ""} else host.host  # noqa: S104 - compared, not bound
    return f"http://{f'[{name}]' if ':' in name else name}:{host.port}"


def check_directory(directory: Path) -> list[Check]:
    """Whether the data directory can be written, is on a local disk, and has space.

    Parameters
    ----------
    directory
        `MODEL_DIR`; need not exist yet.

    Returns
    -------
    list of Check
        `data directory` and `disk space`.
    """
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        remedy = "set MODEL_DIR to a directory that this user may write to"
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
    """Name the kind of file system a path is on.

    Parameters
    ----------
    path
        Exists.
    mounts
        The kernel's list of mounts.

    Returns
    -------
    str
        Such as `ext4` or `nfs4`; empty where that list does not exist.
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


def check_encoder(name: str) -> list[Check]:
    """Whether an encoder and its weights are installed.

    Parameters
    ----------
    name
        A key of `encoders.ENCODERS`.

    Returns
    -------
    list of Check
        `encoder`.
    """
    from usl_backend import encoders

    try:
        encoder = encoders.load(name)
    except USLError as error:
        return [Check("encoder", "failed", str(error), "pip install --force-reinstall usl-backend")]
    return [Check("encoder", "ok", f"{name} and its weights are here ({encoder.dim} dimensions)")]


def _check_settings() -> list[Check]:
    """Whether the environment's run settings can be used, and their encoder."""
    try:
        return check_encoder(RunSettings.resolve().encoder)
    except USLError as error:
        return [Check("settings", "failed", str(error), "correct or unset the variable that is named")]


def check_studio(client: StudioClient) -> list[Check]:
    """Whether Label Studio answers and takes the token.

    Parameters
    ----------
    client
        Made from the settings.

    Returns
    -------
    list of Check
        `Label Studio` and, if that is reachable, `token`.
    """
    try:
        # Without this the version would be refused for a bad token before anything was learned.
        release = client.version()
    except USLError as error:
        if not isinstance(error, StudioAuthError):
            return [Check("Label Studio", "failed", str(error), _remedy(error))]
        release = "unknown"
    found: list[Check] = []
    numbers = tuple(int(part) for part in release.split(".")[:2] if part.isdecimal())
    if len(numbers) == 2 and numbers < OLDEST_STUDIO:
        remedy = f"update it: pip install -U 'label-studio>={OLDEST_STUDIO[0]}.{OLDEST_STUDIO[1]}'"
        found.append(
            Check("Label Studio", "warning", f"{client.url} runs {release}, older than tested", remedy)
        )
    else:
        found.append(Check("Label Studio", "ok", f"{client.url} answers (release {release})"))
    try:
        user = client.whoami()
    except USLError as error:
        return [
            *found,
            Check(
                "token", "failed", str(error), f"create a personal access token at {client.url}/user/account"
            ),
        ]
    detail = f"{client.token_kind} token of {user}"
    days = client.token_days_left(time.time())
    if days is not None and days < 14:
        remedy = f"create a new one at {client.url}/user/account before it ends"
        return [*found, Check("token", "warning", f"{detail}, ends in {days:.0f} days", remedy)]
    return [*found, Check("token", "ok", detail)]


def check_backend_running(host: HostSettings) -> list[Check]:
    """Whether this backend's server is up, seen from here.

    Parameters
    ----------
    host
        Where it listens.

    Returns
    -------
    list of Check
        `backend server`.
    """
    name = "127.0.0.1" if host.host in {"0.0.0.0", "::", ""} else host.host  # noqa: S104 - compared, not bound
    try:
        with socket.create_connection((name, host.port), timeout=2):
            return [Check("backend server", "ok", f"something listens at {name}:{host.port}")]
    except OSError as error:
        detail = f"nothing listens at {name}:{host.port} ({error.strerror or error})"
        return [Check("backend server", "warning", detail, "usl-backend serve")]


def check_project(client: StudioClient, project: Project, host: HostSettings, url: str) -> list[Check]:
    """Whether runs of a project would succeed and their order would be kept.

    Parameters
    ----------
    client, project
        The project, just read.
    host
        For media limits and directories.
    url
        Address of this backend as Label Studio sees it.

    Returns
    -------
    list of Check
        `project`, `label config`, `media`, `connection seen by Label Studio`, `queue`, `overlap`.
    """
    steps: list[tuple[str, Callable[[], list[Check]]]] = [
        ("connection seen by Label Studio", lambda: _check_connection(client, project, url)),
        ("queue", lambda: _check_queue(project)),
    ]
    try:
        tasks = list(client.tasks(project.id, only_unlabeled=False))
    except USLError as error:
        return [Check("project", "failed", str(error), _remedy(error))]
    unlabeled = [task for task in tasks if task.unlabeled]
    found = [_check_tasks(client, project, tasks, unlabeled)]
    try:
        tag = label_config.object_key(label_config.parse(project.label_config))
    except USLError as error:
        remedy = f"{client.url}/projects/{project.id}/settings/labeling"
        found.append(Check("label config", "failed", str(error), remedy))
    else:
        found.append(Check("label config", "ok", f"{tag.type} {tag.name!r} shows data key {tag.data_key!r}"))
        steps.insert(0, ("media", lambda: _check_media(client, unlabeled or tasks, tag.data_key, host)))
    steps.append(("overlap", lambda: _check_overlap(client, project, tasks)))
    for name, step in steps:
        try:
            found += step()
        except USLError as error:
            found.append(Check(name, "failed", str(error), _remedy(error)))
    return found


def _check_tasks(client: StudioClient, project: Project, tasks: list[Task], unlabeled: list[Task]) -> Check:
    """Whether there is anything to choose from."""
    detail = f"{project.title!r}: {len(tasks)} tasks, {len(unlabeled)} without any annotation"
    if unlabeled:
        return Check("project", "ok", detail)
    return Check(
        "project", "failed", detail, f"import tasks at {client.url}/projects/{project.id}/data/import"
    )


def _check_media(client: StudioClient, tasks: list[Task], data_key: str, host: HostSettings) -> list[Check]:
    """Whether a few pictures can be read and decoded: first, middle and last."""
    places = sorted({0, len(tasks) // 2, len(tasks) - 1}) if tasks else []
    root = host.label_studio_local_files_document_root
    limits = MediaLimits(bytes=host.media_max_bytes, seconds=host.media_timeout, pixels=host.media_max_pixels)
    reader = MediaReader(
        limits=limits, local_roots=() if root is None else (root,), allowed_hosts=host.allowed_hosts
    )
    broken: list[str] = []
    with reader:
        for place in places[:_MEDIA_TRIED]:
            task = tasks[place]
            try:
                data = reader.read(client.locate(task.id, task.data.get(data_key)))  # type: ignore[arg-type]
                decode_image(data, size=32, limits=limits)
            except USLError as error:
                broken.append(f"task {task.id}: {error}")
    if not broken:
        return (
            [Check("media", "ok", f"{len(places)} of {len(places)} pictures tried can be read")]
            if places
            else []
        )
    detail = f"{len(broken)} of {len(places)} pictures tried cannot be read ({broken[0]})"
    remedy = (
        "open the task in Label Studio: if it shows there, see LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT and"
        " USL_MEDIA_ALLOWED_HOSTS"
    )
    return [Check("media", "failed" if len(broken) == len(places) else "warning", detail, remedy)]


def _check_connection(client: StudioClient, project: Project, url: str) -> list[Check]:
    """Whether Label Studio reaches us: it calls every backend before it lists them."""
    name = "connection seen by Label Studio"
    command = f"usl-backend connect {project.id}"
    rows = studio_backend.backends(client, project.id)
    row = next((row for row in rows if row.url.rstrip("/") == url.rstrip("/")), None)
    if row is None:
        others = f"; it has {', '.join(other.url for other in rows)}" if rows else ""
        detail = f"project {project.id} is not connected to {url}{others}"
        if _is_private(url):
            command += (
                "  (a private address: Label Studio 1.23.1 and later refuse it unless started with"
                " ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false)"
            )
        return [Check(name, "warning", detail, command)]
    if row.connected:
        active = [hook for hook in studio_backend.webhooks(client, project.id, url) if hook.get("is_active")]
        if active:
            detail = (
                f"Label Studio reaches {url}, but calls it at every annotation, and annotators wait for it"
            )
            return [Check(name, "warning", detail, command)]
        return [Check(name, "ok", f"Label Studio reaches {url} (model {row.title!r})")]
    if "reserved network address" in row.error:
        remedy = (
            "start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false, then: "
            + command
        )
        return [Check(name, "failed", f"Label Studio refuses to call the private address {url}", remedy)]
    detail = f"Label Studio does not reach {url} ({row.error or f'state {row.state}'})"
    remedy = (
        "usl-backend serve, on an address that Label Studio sees; from a container for example"
        f" USL_PUBLIC_URL=http://host.docker.internal:{urlsplit(url).port or 9090}, then: {command}"
    )
    return [Check(name, "failed", detail, remedy)]


def _check_queue(project: Project) -> list[Check]:
    """Whether a published queue is still in force."""
    if not is_ours(project.model_version):
        return [Check("queue", "ok", "no queue of ours is in force")]
    if project.sampling == SAMPLING:
        return [Check("queue", "ok", f"the queue of {project.model_version} is in force")]
    detail = f"{project.model_version} is in force, but sampling was set to {project.sampling!r}: its order is not kept"
    return [
        Check(
            "queue", "warning", detail, "press Start Training again, or: usl-backend reset " + str(project.id)
        )
    ]


def _check_overlap(client: StudioClient, project: Project, tasks: list[Task]) -> list[Check]:
    """Whether Label Studio will serve something before the chosen tasks."""
    if project.show_overlap_first:
        detail = "tasks with overlap are shown first, before the order of the queue"
        where = f"{client.url}/projects/{project.id}/settings/annotation"
        return [Check("overlap", "warning", detail, f"turn it off at {where}")]
    if project.maximum_annotations <= 1:
        return [Check("overlap", "ok", "one annotation per task: ranks are served in order")]
    chosen: set[int] = set()
    if is_ours(project.model_version):
        chosen = {
            row.task
            for row in preannotations.predictions(client, project.id)
            if row.model_version == project.model_version and (row.score or 0.0) < CARRIED_SCORE
        }
    started = [
        task.id
        for task in tasks
        if 0 < task.annotations < project.maximum_annotations and task.id not in chosen
    ]
    if not started:
        detail = (
            f"{project.maximum_annotations} annotations per task: started tasks come first, at random, then the"
            " rest of the queue in order; no task outside the queue is started"
        )
        return [Check("overlap", "ok", detail)]
    detail = (
        f"{len(started)} started tasks outside the queue (first: task {started[0]}) are served before it, because"
        f" the project asks for {project.maximum_annotations} annotations per task"
    )
    remedy = "finish those tasks first, or set the annotations per task to 1 until the queue is labeled"
    return [Check("overlap", "warning", detail, remedy)]


def _is_private(url: str) -> bool:
    """Whether an address is on this host or a private network; False when its name is not known here."""
    name = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(not ipaddress.ip_address(entry[4][0]).is_global for entry in found)


def _remedy(error: USLError) -> str:
    """What to copy, beyond what the message says."""
    if isinstance(error, StudioError):
        return "LABEL_STUDIO_URL=http://... LABEL_STUDIO_API_KEY=... usl-backend doctor"
    return "export LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=..."

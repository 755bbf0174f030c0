"""Checks of a project: whether its runs can succeed and Label Studio keeps their order."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from urllib.parse import urlsplit

from usl_backend.doctor.check import Check, remedy_of
from usl_backend.embedding.choice import encoders_for
from usl_backend.encoders.languages import MOST_TEXTS
from usl_backend.errors import USLError
from usl_backend.exports.usable import usable_formats
from usl_backend.media import decode_image
from usl_backend.runs import RunStore
from usl_backend.runs.projects import remembered_setup
from usl_backend.settings import HostSettings, RunSettings
from usl_backend.sinks.standing import standing
from usl_backend.sources.media import MediaAccess
from usl_backend.sources.showing import FIRST_TASKS, Showing
from usl_backend.studio import backend as studio_backend
from usl_backend.studio import label_config, preannotations
from usl_backend.studio.bulk import CARRIED_SCORE
from usl_backend.studio.client import StudioClient
from usl_backend.studio.model_versions import is_ours
from usl_backend.studio.records import Project, Task
from usl_backend.studio.regions import EXPECTATION, draws_regions
from usl_backend.studio.text_files import text_in

_MEDIA_TRIED = 3


def check_project(client: StudioClient, project: Project, host: HostSettings, url: str) -> list[Check]:
    """Check whether runs of a project can succeed and Label Studio keeps their order.

    Parameters
    ----------
    client, project
        The project, read just before.
    host
        Gives media limits and directories.
    url
        Address at which Label Studio reaches this backend.

    Returns
    -------
    list of Check
        `project`, `label config`, `export`, `regions`, `languages`, `media`, `connection seen by Label Studio`,
        `queue`, `overlap`.
    """
    steps: list[tuple[str, Callable[[], list[Check]]]] = [
        ("connection seen by Label Studio", lambda: _check_connection(client, project, url)),
        ("queue", lambda: _check_queue(client, project, host)),
    ]
    try:
        tasks = list(client.tasks(project.id, only_unlabeled=False))
    except USLError as error:
        return [Check("project", "failed", str(error), remedy_of(error, studio_url=client.url))]
    unlabeled = [task for task in tasks if task.unlabeled]
    found = [_check_tasks(client, project, tasks, unlabeled)]
    try:
        setup = remembered_setup(host.model_dir, project.id, project.key)
        settings = RunSettings.resolve(extra_params=setup.extra_params if setup is not None else {})
        shown = Showing.of(
            label_config.parse(project.label_config),
            settings,
            first=[task.data for task in tasks[:FIRST_TASKS]],
        )
    except USLError as error:
        remedy = f"{client.browser_url}/projects/{project.id}/settings/labeling"
        found.append(Check("label config", "failed", str(error), remedy))
    else:
        detail = ", ".join(f"{field} shows data key {field.key!r}" for field in shown.shown)
        found.append(Check("label config", "ok", detail))
        usable = usable_formats(label_config.parse(project.label_config), shown.fields[0].holds)
        found.append(Check("export", "ok", str(usable)))
        if draws_regions(label_config.parse(project.label_config)):
            found.append(Check("regions", "ok", EXPECTATION))
        steps.insert(
            0, ("languages", lambda: _check_languages(client, unlabeled or tasks, shown, settings, host))
        )
        steps.insert(0, ("media", lambda: _check_media(client, unlabeled or tasks, shown, host)))
    steps.append(("overlap", lambda: _check_overlap(client, project, tasks)))
    for name, step in steps:
        try:
            found += step()
        except USLError as error:
            found.append(Check(name, "failed", str(error), remedy_of(error, studio_url=client.url)))
    return found


def _check_tasks(client: StudioClient, project: Project, tasks: list[Task], unlabeled: list[Task]) -> Check:
    """Check that there are unlabeled tasks."""
    detail = f"{project.title!r}: {len(tasks)} tasks, {len(unlabeled)} without any annotation"
    if unlabeled:
        return Check("project", "ok", detail)
    return Check(
        "project", "failed", detail, f"import tasks at {client.browser_url}/projects/{project.id}/data/import"
    )


def _check_languages(
    client: StudioClient, tasks: list[Task], shown: Showing, settings: RunSettings, host: HostSettings
) -> list[Check]:
    """Check that the encoder which a run would choose knows the languages of its texts."""
    instances = []
    for task in tasks[:: max(1, len(tasks) // MOST_TEXTS)]:
        with suppress(USLError):  # the media's check tells
            instances.append(shown.instance(task.id, task.data))
    choice = encoders_for(
        instances,
        shown.fields,
        settings=settings,
        open_media=lambda: MediaAccess.of_project(host, client).open(client),
        directory=host.encoders,
    )
    languages = choice.languages
    if languages is None:
        return []
    if choice.warning:
        remedy = 'pip install "usl-backend[e5]"'
        if settings.encoder:
            remedy += f", and set the encoder e5-small instead of {settings.encoder}"
        return [Check("languages", "warning", choice.warning, remedy)]
    encoder = choice.encoders.get("text", settings.encoder)
    said = "the texts are mostly English" if languages.mostly_english else str(languages)
    return [Check("languages", "ok", f"{said}; {encoder} embeds them")]


def _check_media(client: StudioClient, tasks: list[Task], shown: Showing, host: HostSettings) -> list[Check]:
    """Check that the media of the first, middle and last task can be read and decoded."""
    places = sorted({0, len(tasks) // 2, len(tasks) - 1}) if tasks else []
    broken: list[str] = []
    with MediaAccess.of_project(host, client).open(client) as media:
        for place in places[:_MEDIA_TRIED]:
            task = tasks[place]
            try:
                instance = shown.instance(task.id, task.data)
                for number, field in enumerate(shown.shown):
                    one = instance.of_field(number, field.modality)
                    if one.file is not None:
                        text_in(media.read(one), file=one.file, limits=media.limits)
                    elif one.modality == "image":
                        decode_image(media.read(one), size=32, limits=media.limits)
            except USLError as error:
                broken.append(f"task {task.id}: {error}")
    if not broken:
        return (
            [Check("media", "ok", f"{len(places)} of {len(places)} tasks tried can be read")]
            if places
            else []
        )
    detail = f"{len(broken)} of {len(places)} tasks tried cannot be read ({broken[0]})"
    remedy = _remedy_of_media(broken[0])
    return [Check("media", "failed" if len(broken) == len(places) else "warning", detail, remedy)]


def _remedy_of_media(reason: str) -> str:
    """Return what helps where the first unreadable task says this."""
    if named := re.search(r"set (LABEL_STUDIO_HOST=\S+)", reason):
        return f"set {named[1]} for the backend, or connect the project, which tells it: usl-backend connect"
    if named := re.search(r"(\S+) has the private or reserved address", reason):
        return f"if you trust it, set USL_MEDIA_ALLOWED_HOSTS={named[1]}"
    if re.search(r"answered 40[34]", reason):
        return (
            "open the task in Label Studio: where it shows nothing either, correct the task's address or its storage; a"
            " Local-files storage has to be connected to the project"
        )
    return "open the task in Label Studio: what it shows there, the backend reads too unless the reason says why not"


def _check_connection(client: StudioClient, project: Project, url: str) -> list[Check]:
    """Check that Label Studio reaches this backend; it calls every backend before it lists them."""
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
                f"Label Studio reaches {url}, but calls it at every annotation, which makes annotators wait"
            )
            return [Check(name, "warning", detail, command)]
        return [Check(name, "ok", f"Label Studio reaches {url} (model {row.title!r})")]
    if "reserved network address" in row.error:
        remedy = (
            "start Label Studio with ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false, then: "
            + command
        )
        return [Check(name, "failed", f"Label Studio refuses to call the private address {url}", remedy)]
    detail, port = (
        f"Label Studio does not reach {url} ({row.error or f'state {row.state}'})",
        urlsplit(url).port or 9090,
    )
    remedy = (
        "usl-backend serve, at an address that Label Studio can reach; from a container for example"
        f" USL_PUBLIC_URL=http://host.docker.internal:{port}, with USL_PAGES_URL=http://localhost:{port} for browsers,"
        f" then: {command}"
    )
    return [Check(name, "failed", detail, remedy)]


def _check_queue(client: StudioClient, project: Project, host: HostSettings) -> list[Check]:
    """Check that the queue published last is in force, whole, and served in its order."""
    with closing(RunStore(host.model_dir)) as store:
        found = standing(client, project, store=store, serve=True)
    if found.ok:
        return [Check("queue", "ok", found.detail)]
    return [Check("queue", "warning", found.detail, found.remedy)]


def _check_overlap(client: StudioClient, project: Project, tasks: list[Task]) -> list[Check]:
    """Check whether Label Studio will serve other tasks before the picks."""
    if project.show_overlap_first:
        detail = "tasks with overlap are shown first, before the order of the queue"
        where = f"{client.browser_url}/projects/{project.id}/settings/annotation"
        return [Check("overlap", "warning", detail, f"turn it off at {where}")]
    if project.maximum_annotations <= 1:
        return [Check("overlap", "ok", "one annotation per task: ranks are served in order")]
    chosen: set[int] = set()
    if is_ours(project.model_version):
        chosen = {
            row.task
            for row in preannotations.predictions_of(client, project.id, project.model_version)
            if (row.score or 0.0) < CARRIED_SCORE
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
    """Return True if an address is on this host or a private network; False if its name does not resolve here."""
    name = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(not ipaddress.ip_address(entry[4][0]).is_global for entry in found)

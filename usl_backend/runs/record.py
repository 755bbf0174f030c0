"""Records of runs and projects as plain values; `store.py` stores them.

A project is identified by its Label Studio id *and* its creation time ("12.1699999999"): an id may be reused
after a project was deleted, and the state of the old project must not leak into the new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from usl_backend.errors import InputError
from usl_backend.runs.published import Destination
from usl_backend.runs.summary import PoolSummary, ProjectNote, Summary

Stage = Literal["fetch", "embed", "select", "publish"]
STAGES: tuple[Stage, ...] = ("fetch", "embed", "select", "publish")
"""The stages of a run, in order."""

Runner = Literal["server", "shell"]
"""Where a run is computed: in a child process of the server, or in the shell that started it."""


class RunState(StrEnum):
    """State of a run: queued, running, then done, failed or cancelled; queued again if its process dies.

    A run is paused when something it needs (Label Studio, its token, disk space) was unavailable for longer than
    it waits. It continues when it is resumed or when the server starts again.
    """

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_active(self) -> bool:
        """True while the run is queued or running."""
        return self in (RunState.QUEUED, RunState.RUNNING)

    @property
    def is_resumable(self) -> bool:
        """True if the run can be queued again, to continue from its last artifact."""
        return self in (RunState.PAUSED, RunState.FAILED, RunState.CANCELLED)


@dataclass(frozen=True)
class Run:
    """One selection over one pool: a project, or a pool outside Label Studio.

    Attributes
    ----------
    id
        `<project>-<number>`, such as "12-7", or `<pool>-<number>`, such as "photos-3"; numbers are never reused.
    project
        Label Studio's project id; 0 for a pool outside Label Studio.
    project_key
        `<project>.<creation time>`, or "" if it was not known when the run was created.
    settings
        The resolved `RunSettings` as JSON.
    state, stage, step
        Position of the run; `step` is a phrase that describes the work within the stage.
    done, total
        Progress within the stage, in the stage's own units; `total` is 0 if unknown.
    error
        {"type", "message"} of the failure, or of the resource a paused run waits for; contains no secrets.
    pool_digest, versions
        Provenance of the result: digest of the pool, versions of the software involved.
    attempts
        Number of starts since the run last stored a result (a stage's artifact, a batch of embeddings), so only
        consecutive crashes without progress count.
    created_at, started_at, finished_at, heartbeat
        Unix seconds. The heartbeat is informational; liveness is decided by the run's lock.
    dry_run
        Select without writing to Label Studio.
    summary
        Summary of the finished run; None before that.
    place
        Where the run is computed.
    pool
        Name of a pool outside Label Studio; "" for a project.
    target
        The pool and the destination of its picks, JSON-able: the attributes of `sources.Target` and of
        `ImportOrder`.
    """

    id: str
    project: int
    project_key: str
    settings: Mapping[str, Any]
    state: RunState
    stage: str | None = None
    step: str | None = None
    done: int = 0
    total: int = 0
    error: Mapping[str, str] | None = None
    pool_digest: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    attempts: int = 0
    created_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    heartbeat: float | None = None
    dry_run: bool = False
    summary: Summary | None = None
    place: Runner = "server"
    pool: str = ""
    target: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """Display name of the selected-from pool: "project 12" or "pool photos"."""
        return f"pool {self.pool}" if self.pool else f"project {self.project}"

    @property
    def address(self) -> str:
        """Path, pattern or address of the pool outside Label Studio; "" for a project."""
        return str(self.target.get("address", ""))

    @property
    def import_order(self) -> ImportOrder | None:
        """Project into which the picks of a pool shall be imported, or None."""
        return ImportOrder.from_json(self.target)

    @property
    def published_to(self) -> ProjectNote | Destination | None:
        """Project whose queue the finished run wrote, or a dry run would have written."""
        if isinstance(self.summary, PoolSummary):
            return self.summary.imported
        return None if self.summary is None else self.summary.project

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON-able values."""
        values = asdict(replace(self, summary=None))
        summary = {} if self.summary is None else self.summary.to_json()
        return {**values, "state": self.state.value, "summary": summary}


@dataclass(frozen=True)
class ImportOrder:
    """Request to import picks into a Label Studio project.

    Attributes
    ----------
    project, key
        Label Studio's id, and id with creation time, as of the creation of the run.
    refer_by
        How tasks refer to their images: "upload" (a copy stored by Label Studio), "url" (the image's own
        address) or "local-files" (a file under Label Studio's local-files root); None uploads files and keeps
        addresses.
    """

    project: int
    key: str
    refer_by: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, a part of `Run.target`."""
        return {"import_as": self.refer_by, "import_to": self.project, "import_key": self.key}

    @classmethod
    def from_json(cls, target: Mapping[str, Any]) -> ImportOrder | None:
        """Inverse of `to_json`; None if nothing is to be imported."""
        if target.get("import_to") is None:
            return None
        return cls(int(target["import_to"]), str(target.get("import_key", "")), target.get("import_as"))


@dataclass(frozen=True)
class ProjectSetup:
    """Content of Label Studio's last /setup request for a project.

    Attributes
    ----------
    project, project_key
        As in `Run`.
    extra_params
        The accepted extra params as an object; empty if none were given.
    label_config
        The project's labeling configuration, XML.
    refused
        Why the extra params were refused, if none were ever accepted; else None.
    updated_at
        Unix seconds.
    hostname
        Address under which Label Studio says that browsers reach it; "" if unknown.
    """

    project: int
    project_key: str
    extra_params: Mapping[str, Any]
    label_config: str
    refused: str | None
    updated_at: float
    hostname: str = ""


def parse_project_key(text: object) -> tuple[int, str]:
    """Parse Label Studio's project identifier: "12.1699999999", "12" or 12.

    Parameters
    ----------
    text
        A string with or without the creation time, or a number.

    Returns
    -------
    tuple of int and str
        Id and key; the key is "" if no creation time was given.

    Raises
    ------
    InputError
        `text` has none of these forms.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    if isinstance(text, str):
        number, dot, created = text.strip().partition(".")
        usable = number.isascii() and number.isdecimal() and 0 < int(number[:19]) < 2**63
        if usable and len(number) < 20 and (not dot or (created.isascii() and created.isdecimal())):
            return int(number), f"{int(number)}.{created}" if dot else ""
    raise InputError(
        f"project is {str(text)[:80]!r}; give Label Studio's project id, such as 12, or with its creation "
        "time, such as 12.1699999999"
    )


def project_key(project: int, created_at: object) -> str:
    """Build a project's key from its creation time as text.

    Parameters
    ----------
    project
        Label Studio's id.
    created_at
        ISO 8601, as in Label Studio's API and webhooks.

    Returns
    -------
    str
        The key as used by Label Studio's /setup, in whole seconds; "" if the time is missing or invalid.
    """
    if not isinstance(created_at, str):
        return ""
    try:
        return f"{project}.{int(datetime.fromisoformat(created_at).timestamp())}"
    except (ValueError, OverflowError, OSError):
        return ""

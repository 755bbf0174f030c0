"""What is known of a run: plain values, no storage and no behaviour.

A project is its Label Studio id *and* its creation time ("12.1699999999"): an id may be given again after a
project was deleted, and the state of the old one must not leak into the new.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from usl_backend.errors import InputError
from usl_backend.runs.published import Destination
from usl_backend.runs.summary import PoolSummary, ProjectNote, Summary

Stage = Literal["fetch", "embed", "select", "publish"]
STAGES: tuple[Stage, ...] = ("fetch", "embed", "select", "publish")
"""The stages of a run, in order."""

RUN_ID: Final = re.compile(r"(?:[0-9]+|(?P<pool>[a-z][a-z0-9_]*))-[0-9]+", re.ASCII)
"""Id of a run over a project, such as 12-7, or over a pool outside Label Studio, such as photos-3."""
Runner = Literal["server", "shell"]
"""Who computes a run: a child of the server, or the shell that asked for it."""


class RunState(StrEnum):
    """Life of a run: queued, running, then done, failed or cancelled; if its process dies, queued again.

    A paused run has nothing wrong with it: what it needs (Label Studio, its token, disk space) was missing for
    longer than it waits. It goes on when it is resumed, or when the server is started again.
    """

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_active(self) -> bool:
        """Whether the run may still change by itself."""
        return self in (RunState.QUEUED, RunState.RUNNING)

    @property
    def is_resumable(self) -> bool:
        """Whether the run may be queued again; it goes on after what it has completed."""
        return self in (RunState.PAUSED, RunState.FAILED, RunState.CANCELLED)


@dataclass(frozen=True)
class Run:
    """One selection over one pool: a project, or a pool outside Label Studio.

    Attributes
    ----------
    id
        `<project>-<number>`, such as "12-7", or `<pool>-<number>`, such as "photos-3"; numbers are never given
        twice.
    project
        Label Studio's project id; 0 for a pool outside Label Studio.
    project_key
        `<project>.<creation time>`, or "" where it was not known when the run was asked for.
    settings
        The resolved `RunSettings` as JSON.
    state, stage, step
        Where the run is; `step` is a phrase within the stage.
    done, total
        Progress within the stage, in units of its own; `total` 0 when unknown.
    error
        {"type", "message"} of the failure or of what the run waits for, without secrets.
    pool_digest, versions
        What the result was made from: digest of the pool, versions of the software that matters.
    attempts
        How often the computation was begun since it last kept something: a stage's artifact, a batch of
        embeddings. Deaths in a row count, whatever a long run survives on its way does not.
    created_at, started_at, finished_at, heartbeat
        Unix seconds. The heartbeat only informs: whether a run lives is told by its lock.
    dry_run
        Selects but writes nothing to Label Studio.
    summary
        What the finished run reports; None before that.
    place
        Who computes it.
    pool
        Name of a pool outside Label Studio; "" for a project.
    target
        What that pool is and where its picks go, JSON-able: the attributes of `sources.Target`, and those of
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
        """What it selects from, for people: "project 12" or "pool photos"."""
        return f"pool {self.pool}" if self.pool else f"project {self.project}"

    @property
    def address(self) -> str:
        """Path, pattern or address of the pool outside Label Studio; "" for a project."""
        return str(self.target.get("address", ""))

    @property
    def import_order(self) -> ImportOrder | None:
        """The project that the picks of a pool are to be imported to; None where they are not."""
        return ImportOrder.from_json(self.target)

    @property
    def published_to(self) -> ProjectNote | Destination | None:
        """The project whose queue the finished run made, or would have made but for a dry run."""
        if isinstance(self.summary, PoolSummary):
            return self.summary.imported
        return None if self.summary is None else self.summary.project

    def to_json(self) -> dict[str, Any]:
        """All attributes as JSON-able values."""
        told = asdict(replace(self, summary=None))
        summary = {} if self.summary is None else self.summary.to_json()
        return {**told, "state": self.state.value, "summary": summary}


@dataclass(frozen=True)
class ImportOrder:
    """A project that picks are to be imported to.

    Attributes
    ----------
    project, key
        Label Studio's id, and id with creation time when the run was asked for.
    refer_by
        How tasks refer to their pictures: "upload" (a copy that Label Studio keeps), "url" (the picture's own
        address) or "local-files" (a file below Label Studio's local-files root); None: files are uploaded, addresses
        stay addresses.
    """

    project: int
    key: str
    refer_by: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As part of `Run.target`."""
        return {"import_as": self.refer_by, "import_to": self.project, "import_key": self.key}

    @classmethod
    def from_json(cls, target: Mapping[str, Any]) -> ImportOrder | None:
        """Inverse of `to_json`; None where the picks go nowhere."""
        if target.get("import_to") is None:
            return None
        return cls(int(target["import_to"]), str(target.get("import_key", "")), target.get("import_as"))


@dataclass(frozen=True)
class ProjectSetup:
    """What Label Studio last told about a project in /setup.

    Attributes
    ----------
    project, project_key
        As in `Run`.
    extra_params
        The accepted extra params as an object; empty when none were given.
    label_config
        The project's labeling configuration, XML.
    refused
        Why the extra params could not be used, when none were ever accepted; else None.
    updated_at
        Unix seconds.
    """

    project: int
    project_key: str
    extra_params: Mapping[str, Any]
    label_config: str
    refused: str | None
    updated_at: float


def parse_project_key(text: object) -> tuple[int, str]:
    """Project id and key out of what Label Studio calls a project: "12.1699999999", "12" or 12.

    Parameters
    ----------
    text
        As it came in; a string with or without the creation time, or a number.

    Returns
    -------
    tuple of int and str
        Id, and the key; the key is "" where no creation time was given.

    Raises
    ------
    InputError
        It is none of these.
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
    """Key of a project whose creation time is told as text.

    Parameters
    ----------
    project
        Label Studio's id.
    created_at
        ISO 8601, as Label Studio's API and webhooks tell it.

    Returns
    -------
    str
        The key that Label Studio's /setup uses, in whole seconds; "" where the time is missing or unreadable.
    """
    if not isinstance(created_at, str):
        return ""
    try:
        return f"{project}.{int(datetime.fromisoformat(created_at).timestamp())}"
    except (ValueError, OverflowError, OSError):
        return ""

"""Stored facts about Label Studio projects: their last /setup and their published queue. Runs are in `store.py`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from usl_backend.errors import InputError
from usl_backend.instances import QueueState
from usl_backend.runs.columns import proper
from usl_backend.runs.database import Database
from usl_backend.runs.record import ProjectSetup
from usl_backend.settings.ids import MOST_IDS

_STATE = TypeAdapter(QueueState)
_MOST_ADDRESSES = 8

Wish = Literal["pin", "exclude"]


@dataclass(frozen=True)
class StandingWishes:
    """Tasks of a project that every new run takes into its settings.

    Attributes
    ----------
    pinned
        Tasks to pick in any case, in the order in which they were pinned.
    excluded
        Tasks never to queue.
    """

    pinned: tuple[int, ...] = ()
    excluded: tuple[int, ...] = ()


class ProjectRecords(Database):
    """Setups and queue states of the projects of one data directory."""

    def remember_setup(
        self,
        project: int,
        project_key: str,
        *,
        extra_params: Mapping[str, Any] | None = None,
        label_config: str = "",
        hostname: str = "",
        refused: str | None = None,
    ) -> bool:
        """Store the content of a /setup request; the last one wins.

        A refused setup never replaces an accepted one, because Label Studio also keeps the old parameters when
        the new ones are refused. Without an accepted one it is stored, so Start Training can report the reason.

        Returns
        -------
        bool
            True if anything changed; a repeated setup writes nothing.
        """
        known = self._setup_of("project_key = ?", (project_key,))
        params = json.dumps(dict(extra_params or {}), sort_keys=True)
        if known is not None:
            same_params = json.dumps(dict(known.extra_params), sort_keys=True) == params
            if refused is not None and known.refused is None:
                return False
            hostname = hostname or known.hostname
            same_texts = (known.label_config, known.hostname) == (label_config, hostname)
            if same_params and same_texts and known.refused == refused:
                newest = self.setup(project)
                if newest is not None and newest.project_key == project_key:
                    return False
        with self._transaction() as sql:
            sql.execute(
                "INSERT OR REPLACE INTO setups "
                "(project_key, project, extra_params, label_config, refused, updated_at, hostname) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    project_key,
                    project,
                    params,
                    proper(label_config),
                    refused and proper(refused),
                    time.time(),
                    proper(hostname),
                ),
            )
        return True

    def setup(self, project: int, project_key: str = "") -> ProjectSetup | None:
        """Return the setup of the project with this key, or without a key the newest one with this id."""
        if project_key:
            return self._setup_of("project_key = ?", (project_key,))
        return self._setup_of("project = ? ORDER BY updated_at DESC LIMIT 1", (project,))

    def public_addresses(self) -> tuple[str, ...]:
        """Return the addresses under which Label Studio says that browsers reach it, the newest first."""
        rows = self._read(
            "SELECT hostname FROM setups WHERE hostname != '' GROUP BY hostname ORDER BY MAX(updated_at) DESC LIMIT ?",
            (_MOST_ADDRESSES,),
        )
        return tuple(str(hostname) for (hostname,) in rows)

    def queue_state(self, project_key: str) -> QueueState | None:
        """Return the state of the queue last published to a project, or None."""
        rows = self._read("SELECT state FROM queues WHERE project_key = ?", (project_key,))
        return _STATE.validate_json(rows[0][0]) if rows else None

    def save_queue_state(self, project_key: str, state: QueueState | None) -> None:
        """Store the state of a project's published queue; None deletes it."""
        with self._transaction() as sql:
            if state is None:
                sql.execute("DELETE FROM queues WHERE project_key = ?", (project_key,))
            else:
                sql.execute(
                    "INSERT OR REPLACE INTO queues VALUES (?, ?)", (project_key, json.dumps(asdict(state)))
                )

    def wishes(self, project_key: str) -> StandingWishes:
        """Return the tasks of a project that are pinned and excluded until somebody takes them back."""
        rows = self._read(
            "SELECT task, wish FROM wishes WHERE project_key = ? ORDER BY place", (project_key,)
        )
        found: dict[str, list[int]] = {"pin": [], "exclude": []}
        for task, wish in rows:
            found[wish].append(task)
        return StandingWishes(tuple(found["pin"]), tuple(found["exclude"]))

    def add_wishes(self, project_key: str, tasks: Iterable[int], wish: Wish) -> StandingWishes:
        """Pin or exclude tasks, behind those before; the last wish about a task holds. Return what stands now.

        Raises
        ------
        InputError
            There would be more than a run takes; nothing is stored.
        """
        with self._transaction() as sql:
            (last,) = sql.execute("SELECT COALESCE(MAX(place), 0) FROM wishes").fetchone()
            for place, task in enumerate(dict.fromkeys(tasks), last + 1):
                sql.execute(
                    "INSERT INTO wishes VALUES (?, ?, ?, ?) ON CONFLICT (project_key, task) DO UPDATE "
                    "SET wish = excluded.wish, place = excluded.place WHERE wish != excluded.wish",
                    (project_key, task, wish, place),
                )
            (count,) = sql.execute(
                "SELECT COUNT(*) FROM wishes WHERE project_key = ? AND wish = ?", (project_key, wish)
            ).fetchone()
            if count > MOST_IDS:  # as many as a run takes
                told = "pinned" if wish == "pin" else "excluded"
                raise InputError(
                    f"{count:,} tasks would be {told}; a project may have {MOST_IDS:,}, take others back first"
                )
        return self.wishes(project_key)

    def remove_wishes(self, project_key: str, tasks: Iterable[int], wish: Wish) -> StandingWishes:
        """Take back that tasks are pinned or excluded; return what stands now."""
        with self._transaction() as sql:
            sql.executemany(
                "DELETE FROM wishes WHERE project_key = ? AND task = ? AND wish = ?",
                [(project_key, task, wish) for task in tasks],
            )
        return self.wishes(project_key)

    def wished_key(self, project: int) -> str:
        """Return the key of the project with this id that has the newest wish; "" if none has one."""
        rows = self._read(
            "SELECT project_key FROM wishes WHERE project_key LIKE ? ORDER BY place DESC LIMIT 1",
            (f"{project}.%",),
        )
        return str(rows[0][0]) if rows else ""

    def _setup_of(self, condition: str, values: tuple[Any, ...]) -> ProjectSetup | None:
        """Return the setup that matches an SQL condition (a constant of this module)."""
        rows = self._read(
            "SELECT project, project_key, extra_params, label_config, refused, updated_at, hostname FROM setups "  # noqa: S608  # nosec B608
            f"WHERE {condition}",
            values,
        )
        return next((ProjectSetup(row[0], row[1], json.loads(row[2]), *row[3:]) for row in rows), None)


def remembered_setup(directory: Path, project: int, project_key: str) -> ProjectSetup | None:
    """Return a project's last setup in a data directory; nothing is made if it is not in use."""
    if not (directory / Database.FILE).is_file():
        return None
    with closing(ProjectRecords(directory)) as records:
        return records.setup(project, project_key)


def learned_addresses(directory: Path) -> tuple[str, ...]:
    """Return `ProjectRecords.public_addresses` of a data directory; none, and nothing is made, if it is not in use."""
    if not (directory / Database.FILE).is_file():
        return ()
    with closing(ProjectRecords(directory)) as records:
        return records.public_addresses()

"""Persistent counters: child processes add to them, the server reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from usl_backend.runs.database import Database


@dataclass(frozen=True)
class Count:
    """An increment of a counter, or its current sum.

    Attributes
    ----------
    name
        Counter name, such as "items"; `web/metrics.py` lists them.
    value
        The increment when added, the sum of all increments when read.
    labels
        Labels that distinguish counters of one name.
    """

    name: str
    value: float
    labels: Mapping[str, str]


class Counters(Database):
    """Monotonic counters, safe for threads and processes."""

    def add_counts(self, counts: Iterable[Count]) -> None:
        """Add increments in one commit.

        Parameters
        ----------
        counts
            Increments, none below 0.

        Raises
        ------
        RunError
            The data directory cannot be written; nothing was added.
        """
        rows = [(count.name, json.dumps(dict(count.labels), sort_keys=True), count.value) for count in counts]
        if rows:
            with self._transaction() as sql:
                sql.executemany(
                    "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                    rows,
                )

    def counts(self) -> list[Count]:
        """Return every counter, ordered by name and labels."""
        rows = self._read("SELECT name, value, labels FROM counters ORDER BY name, labels")
        return [Count(name, value, json.loads(labels)) for name, value, labels in rows]

"""Counters that outlive who counts: a run's child adds to them, the server reads them. No format is known here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from usl_backend.runs.database import Database


@dataclass(frozen=True)
class Count:
    """How often, or how much of, something happened.

    Attributes
    ----------
    name
        What is counted, such as "items"; `web/metrics.py` says which there are.
    value
        An increment when it is added, the sum of all increments when it is read.
    labels
        What tells it from other counts of that name.
    """

    name: str
    value: float
    labels: Mapping[str, str]


class Counters(Database):
    """Sums that only grow; safe for threads and processes."""

    def add_counts(self, counts: Iterable[Count]) -> None:
        """Add increments, all in one commit.

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
        """Every sum, ordered by name and labels."""
        rows = self._connection().execute("SELECT name, value, labels FROM counters ORDER BY name, labels")
        return [Count(name, value, json.loads(labels)) for name, value, labels in rows]

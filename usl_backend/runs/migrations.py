"""Schema of the database file, one migration per version; `database.py` applies them."""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, project INTEGER NOT NULL, project_key TEXT NOT NULL, settings TEXT NOT NULL,
        state TEXT NOT NULL, stage TEXT, step TEXT, done INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0, error TEXT, pool_digest TEXT, versions TEXT NOT NULL DEFAULT '{}',
        attempts INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, started_at REAL, finished_at REAL,
        heartbeat REAL, dry_run INTEGER NOT NULL DEFAULT 0, summary TEXT NOT NULL DEFAULT '{}',
        place TEXT NOT NULL DEFAULT 'server', sequence INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX one_active_run ON runs (project) WHERE state IN ('queued', 'running');
    CREATE INDEX runs_by_age ON runs (sequence);
    CREATE INDEX runs_by_project ON runs (project, sequence);
    CREATE TABLE numbers (project INTEGER PRIMARY KEY, last INTEGER NOT NULL);
    CREATE TABLE setups (
        project_key TEXT PRIMARY KEY, project INTEGER NOT NULL, extra_params TEXT NOT NULL,
        label_config TEXT NOT NULL, refused TEXT, updated_at REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX setups_by_project ON setups (project, updated_at);
    CREATE TABLE queues (project_key TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE installation (id TEXT NOT NULL);
    INSERT INTO installation VALUES (lower(hex(randomblob(3))));
    CREATE TABLE counters (
        name TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (name, labels)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE pools (name TEXT PRIMARY KEY, address TEXT NOT NULL UNIQUE, last INTEGER NOT NULL) WITHOUT ROWID;
    ALTER TABLE runs ADD COLUMN pool TEXT NOT NULL DEFAULT '';
    ALTER TABLE runs ADD COLUMN target TEXT NOT NULL DEFAULT '{}';
    DROP INDEX one_active_run;
    CREATE UNIQUE INDEX one_active_run ON runs (project, pool) WHERE state IN ('queued', 'running');
    CREATE INDEX runs_by_pool ON runs (pool, sequence);
    """,
    """
    ALTER TABLE setups ADD COLUMN hostname TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE TABLE wishes (
        project_key TEXT NOT NULL, task INTEGER NOT NULL, wish TEXT NOT NULL, place INTEGER NOT NULL,
        PRIMARY KEY (project_key, task)
    ) WITHOUT ROWID;
    """,
)
"""Step n brings the file from `user_version` n to n + 1. Never edit a step that was released: append one,
and keep a dump of the layout before it in tests/data/layouts, from which its test starts."""

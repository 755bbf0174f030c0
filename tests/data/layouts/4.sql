BEGIN TRANSACTION;
CREATE TABLE counters (
        name TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (name, labels)
    ) WITHOUT ROWID;
CREATE TABLE installation (id TEXT NOT NULL);
INSERT INTO "installation" VALUES('cef17d');
CREATE TABLE numbers (project INTEGER PRIMARY KEY, last INTEGER NOT NULL);
INSERT INTO "numbers" VALUES(12,2);
INSERT INTO "numbers" VALUES(13,1);
CREATE TABLE pools (name TEXT PRIMARY KEY, address TEXT NOT NULL UNIQUE, last INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE queues (project_key TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "queues" VALUES('12.1795452443','{"run_id": "12-1", "model_version": "usl-12-1", "sampling": "Uncertainty sampling", "view_id": 3, "default_view_id": null, "original_sampling": "Sequential sampling", "original_model_version": ""}');
CREATE TABLE runs ( id TEXT PRIMARY KEY, project INTEGER NOT NULL, project_key TEXT NOT NULL, settings TEXT NOT NULL, state TEXT NOT NULL, stage TEXT, step TEXT, done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0, error TEXT, pool_digest TEXT, versions TEXT NOT NULL DEFAULT '{}', attempts INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, started_at REAL, finished_at REAL, heartbeat REAL, dry_run INTEGER NOT NULL DEFAULT 0, summary TEXT NOT NULL DEFAULT '{}', place TEXT NOT NULL DEFAULT 'server', sequence INTEGER NOT NULL , pool TEXT NOT NULL DEFAULT '', target TEXT NOT NULL DEFAULT '{}') WITHOUT ROWID;
INSERT INTO "runs" VALUES('12-1',12,'12.1795452443','{"budget": "10", "method": "usl"}','done',NULL,NULL,0,0,NULL,'abababababababababababababababababababababababababababababababab','{"usl-backend": "0.1.0"}',1,1.79557757198260045054e+09,1.79557757198304152488e+09,1.79557757198331594469e+09,1.79557757198304152488e+09,0,'{"picks": 10, "model_version": "usl-12-1", "seconds": {"fetch": 1.5, "embed": 20.0}}','server',1,'','{}');
INSERT INTO "runs" VALUES('12-2',12,'12.1795452443','{"budget": "20"}','failed',NULL,NULL,0,0,'{"type": "StudioError", "message": "no answer from Label Studio"}',NULL,'{}',0,1.79557757198347473144e+09,NULL,1.79557757198366332047e+09,NULL,0,'{}','server',2,'','{}');
INSERT INTO "runs" VALUES('13-1',13,'','{"seed": 4}','queued',NULL,NULL,0,0,NULL,NULL,'{}',0,1.79557757198378109934e+09,NULL,NULL,NULL,1,'{}','shell',3,'','{}');
CREATE TABLE setups ( project_key TEXT PRIMARY KEY, project INTEGER NOT NULL, extra_params TEXT NOT NULL, label_config TEXT NOT NULL, refused TEXT, updated_at REAL NOT NULL , hostname TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
INSERT INTO "setups" VALUES('12.1795452443',12,'{"budget": 100}','<View/>',NULL,1.79557757198399972915e+09,'');
INSERT INTO "setups" VALUES('13.5',13,'{}','','unknown setting "budegt"',1.79557757198409366603e+09,'');
CREATE INDEX runs_by_age ON runs (sequence);
CREATE INDEX runs_by_project ON runs (project, sequence);
CREATE INDEX setups_by_project ON setups (project, updated_at);
CREATE UNIQUE INDEX one_active_run ON runs (project, pool) WHERE state IN ('queued', 'running');
CREATE INDEX runs_by_pool ON runs (pool, sequence);
COMMIT;
PRAGMA user_version = 4;

-- Batch job queues of which job_queue.blocked was told: a restart must not tell it again, and must tell the end of it.

CREATE TABLE blocked_queues (
    job_queue TEXT PRIMARY KEY,
    cause TEXT NOT NULL,
    blocked_at REAL NOT NULL
) WITHOUT ROWID;

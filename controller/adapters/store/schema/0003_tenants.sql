-- Whose request a row is, by name. Tenants of one job queue take turns, so the backlog is indexed by tenant: the next
-- tenant and its first rows are one seek each, however many rows and tenants wait.

CREATE TABLE tenants (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
-- Rows that were submitted before there were tenants.
INSERT INTO tenants (id, name) VALUES (0, '');
INSERT INTO tenants (name) SELECT name FROM sources ORDER BY id;

ALTER TABLE jobs ADD COLUMN tenant INTEGER NOT NULL DEFAULT 0;
DROP INDEX jobs_backlog;
-- What waits, or may have to wait again, is its SQS queue's.
UPDATE jobs INDEXED BY jobs_waiting
    SET tenant = (SELECT tenants.id FROM tenants JOIN sources USING (name) WHERE sources.id = jobs.source)
    WHERE state = 0;
UPDATE jobs INDEXED BY jobs_in_flight
    SET tenant = (SELECT tenants.id FROM tenants JOIN sources USING (name) WHERE sources.id = jobs.source)
    WHERE state = 1;
-- The definition rides along so that rows of held definitions are passed over without visiting the table.
CREATE INDEX jobs_backlog ON jobs (job_queue, tenant, rank, job_definition)
    WHERE state = 0 AND cancel_requested_at IS NULL;

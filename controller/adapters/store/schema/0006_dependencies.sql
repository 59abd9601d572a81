-- Requests that name other requests in dependsOn wait, QUEUED, until each of those has a job.

-- What waits for another request is no backlog that could be sent.
ALTER TABLE usage RENAME TO usage_before;
CREATE TABLE usage (
    source INTEGER NOT NULL,
    job_queue INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    batch_status INTEGER NOT NULL,
    is_in_doubt INTEGER NOT NULL,
    is_array INTEGER NOT NULL,
    is_unmet INTEGER NOT NULL,
    count INTEGER NOT NULL CHECK (count >= 0),
    PRIMARY KEY (source, job_queue, state, batch_status, is_in_doubt, is_array, is_unmet)
) WITHOUT ROWID;
INSERT INTO usage SELECT source, job_queue, state, batch_status, is_in_doubt, is_array, 0, count FROM usage_before;
DROP TABLE usage_before;

ALTER TABLE jobs ADD COLUMN dependencies INTEGER NOT NULL DEFAULT 0  -- 0 NONE  1 UNMET  2 MET
    CONSTRAINT sent_with_dependencies_met CHECK (dependencies BETWEEN 0 AND 2 AND (dependencies <> 1 OR state IN (0, 7)));
DROP INDEX jobs_backlog;
-- The definition rides along so that rows of held definitions are passed over without visiting the table.
CREATE INDEX jobs_backlog ON jobs (job_queue, tenant, rank, job_definition)
    WHERE state = 0 AND cancel_requested_at IS NULL AND dependencies <> 1;
DROP INDEX jobs_waiting;
CREATE INDEX jobs_waiting ON jobs (job_queue, dependencies = 1, received_at) WHERE state = 0;
CREATE INDEX jobs_unmet ON jobs (received_at) WHERE state = 0 AND dependencies = 1;

-- On whom a row depends, as long as it may still have to be sent.
CREATE TABLE dependencies (
    row_key INTEGER NOT NULL,
    request_id BLOB NOT NULL,
    due INTEGER NOT NULL,               -- raised by one with each change of that request; 0: all are considered
    PRIMARY KEY (row_key, request_id)
) WITHOUT ROWID;
CREATE INDEX dependencies_on ON dependencies (request_id);
CREATE INDEX dependencies_due ON dependencies (row_key) WHERE due > 0;

-- The ledger. States, statuses and names are integers, UUID-shaped ids 16-byte blobs: adapters/store/rows.py is the
-- only place that knows the codes.
--
-- states:   0 QUEUED  1 SUBMITTING  2 TRACKED  3 SUCCEEDED  4 FAILED  5 LOST  6 REJECTED  7 CANCELLED
-- statuses: 0 SUBMITTED  1 PENDING  2 RUNNABLE  3 STARTING  4 RUNNING  5 SUCCEEDED  6 FAILED

CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    store_id TEXT NOT NULL CHECK (length(store_id) = 32),
    account TEXT,
    region TEXT,
    -- Keys are never used twice, not even after the newest row was pruned: event ids derive from them.
    next_key INTEGER NOT NULL DEFAULT 1,
    next_outbox_key INTEGER NOT NULL DEFAULT 1,
    CHECK ((account IS NULL) = (region IS NULL))
);

CREATE TABLE sources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE job_queues (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, aging_s REAL NOT NULL);
CREATE TABLE job_definitions (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE arn_prefixes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE sinks (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE jobs (
    key INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,

    -- What was asked; never changes
    request_id BLOB NOT NULL,
    message_id BLOB,                    -- NULL: the same as request_id
    source INTEGER NOT NULL,
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32),
    job_name TEXT NOT NULL,
    batch_job_name BLOB NOT NULL,       -- 6 bytes: the hash behind job_name and a hyphen
    job_queue INTEGER NOT NULL,
    job_queue_ref TEXT,                 -- NULL: the job queue's name
    job_definition INTEGER NOT NULL,
    priority INTEGER NOT NULL CHECK (priority BETWEEN -1000 AND 1000),
    array_size INTEGER CHECK (array_size BETWEEN 2 AND 10000),
    received_at REAL NOT NULL,
    expires_at REAL,
    traceparent TEXT,
    tracestate TEXT,

    -- Where it stands; named by an UPDATE only when changed, because indexes hang on these columns
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 7),
    life INTEGER NOT NULL,              -- 0; the row's key once it is REJECTED, which frees the request id
    rank REAL,                          -- received_at - priority * aging_s while QUEUED
    cancel_requested_at REAL,
    batch_job_id BLOB,
    finished_at REAL,

    -- Where it stands; no index
    first_intent_at REAL,
    doubted_at REAL,
    is_in_doubt INTEGER NOT NULL CHECK (is_in_doubt IN (0, 1)),
    refusals INTEGER NOT NULL CHECK (refusals >= 0),
    cancel_reason TEXT,
    batch_job_arn BLOB,                 -- an integer: prefix in arn_prefixes, followed by the job id
    batch_status INTEGER CHECK (batch_status BETWEEN 0 AND 6),
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    submitted_at REAL,
    created_at REAL,
    started_at REAL,
    stopped_at REAL,
    observed_at REAL,
    first_missed_at REAL,
    misses INTEGER NOT NULL CHECK (misses >= 0),
    reason TEXT,
    reason_class TEXT,

    CONSTRAINT rejected_frees_the_request_id CHECK (life = CASE state WHEN 6 THEN key ELSE 0 END),
    CONSTRAINT queued_is_ranked CHECK ((state = 0) = (rank IS NOT NULL)),
    CONSTRAINT final_has_finished_at CHECK ((state >= 3) = (finished_at IS NOT NULL)),
    CONSTRAINT job_id_once_submitted CHECK ((state IN (2, 3, 4, 5)) = (batch_job_id IS NOT NULL)),
    CONSTRAINT tracked_was_submitted CHECK (batch_job_id IS NULL OR submitted_at IS NOT NULL),
    CONSTRAINT intent_before_submission CHECK (state <> 1 OR first_intent_at IS NOT NULL),
    CONSTRAINT doubt_is_marked CHECK (is_in_doubt = 0 OR (state = 1 AND doubted_at IS NOT NULL)),
    CONSTRAINT mark_has_an_intent CHECK (doubted_at IS NULL OR first_intent_at IS NOT NULL),
    CONSTRAINT cancel_reason_has_a_cancel CHECK (cancel_reason IS NULL OR cancel_requested_at IS NOT NULL),
    CONSTRAINT misses_have_a_first CHECK (misses = 0 OR first_missed_at IS NOT NULL)
);

-- One life of a request id at most that is not REJECTED; also finds every life of an id.
CREATE UNIQUE INDEX jobs_lives ON jobs (request_id, life);
CREATE UNIQUE INDEX jobs_batch_ids ON jobs (batch_job_id) WHERE batch_job_id IS NOT NULL;
-- The definition rides along so that rows of held definitions are passed over without visiting the table.
CREATE INDEX jobs_backlog ON jobs (job_queue, rank, job_definition) WHERE state = 0 AND cancel_requested_at IS NULL;
CREATE INDEX jobs_waiting ON jobs (job_queue, received_at) WHERE state = 0;
CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE state = 0 AND expires_at IS NOT NULL;
CREATE INDEX jobs_in_flight ON jobs (state) WHERE state = 1 OR state = 2;
CREATE INDEX jobs_cancelled ON jobs (state) WHERE cancel_requested_at IS NOT NULL AND finished_at IS NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

-- The SQS message's body, as long as it may still have to be sent.
CREATE TABLE bodies (key INTEGER PRIMARY KEY, body BLOB NOT NULL);

-- How many live rows stand where, kept by the difference of each change. batch_status -1: none.
CREATE TABLE usage (
    source INTEGER NOT NULL,
    job_queue INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    batch_status INTEGER NOT NULL,
    is_in_doubt INTEGER NOT NULL,
    is_array INTEGER NOT NULL,
    count INTEGER NOT NULL CHECK (count >= 0),
    PRIMARY KEY (source, job_queue, state, batch_status, is_in_doubt, is_array)
) WITHOUT ROWID;

CREATE TABLE rejections (
    key INTEGER PRIMARY KEY,            -- from the same sequence as the jobs'
    message_id BLOB NOT NULL UNIQUE,
    source INTEGER NOT NULL,
    received_at REAL NOT NULL
);
CREATE INDEX rejections_received ON rejections (received_at);

CREATE TABLE cancels (
    request_id BLOB NOT NULL,
    source INTEGER NOT NULL,
    reason TEXT,
    received_at REAL NOT NULL,
    PRIMARY KEY (request_id, source)
) WITHOUT ROWID;
CREATE INDEX cancels_received ON cancels (received_at);

CREATE TABLE holds (
    job_queue TEXT NOT NULL,
    job_definition TEXT NOT NULL,       -- empty: the whole job queue
    reason TEXT NOT NULL,
    held_at REAL NOT NULL,
    PRIMARY KEY (job_queue, job_definition)
) WITHOUT ROWID;

CREATE TABLE outbox (
    key INTEGER PRIMARY KEY,
    sink INTEGER NOT NULL,
    row_key INTEGER,                    -- the job or rejection it reports, which stays as long as it is here
    event_id BLOB NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX outbox_sinks ON outbox (sink);
CREATE INDEX outbox_rows ON outbox (row_key) WHERE row_key IS NOT NULL;

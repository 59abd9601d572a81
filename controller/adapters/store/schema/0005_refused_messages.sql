-- Messages of REJECTED lives: a redelivery is known by its message, however often the id was sent again since.

CREATE INDEX jobs_refused ON jobs (ifnull(message_id, request_id)) WHERE life > 0;

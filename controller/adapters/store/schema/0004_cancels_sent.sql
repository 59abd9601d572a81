-- When a remembered cancel was sent: whether it or the request is the later one, for an id that is sent again after a
-- rejection. Of those that are there it is known only that it was before they came.

ALTER TABLE cancels ADD COLUMN sent_at REAL NOT NULL DEFAULT 0;
UPDATE cancels SET sent_at = received_at;

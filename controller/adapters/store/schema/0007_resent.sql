-- When a request was sent whose id was rejected before: a cancel that is older is not for it, whenever it comes. Of those
-- that are there it is not known.

ALTER TABLE jobs ADD COLUMN resent_at REAL;

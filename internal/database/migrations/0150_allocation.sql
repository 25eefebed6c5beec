-- +goose Up
-- How much of a quota may be in which set: a JSON object of set ids, in the factor's own unit. A tenant's goes with its
-- own allowance; without one both are the default's.
ALTER TABLE quota ADD COLUMN allocation TEXT NOT NULL DEFAULT '{}';
ALTER TABLE quota_default ADD COLUMN allocation TEXT NOT NULL DEFAULT '{}';

-- +goose Down
ALTER TABLE quota_default DROP COLUMN allocation;
ALTER TABLE quota DROP COLUMN allocation;

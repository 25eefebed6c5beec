-- +goose Up
-- Interfaces on a segment have no inner side.
UPDATE port SET inner_sg = '' WHERE segment_id <> '';

-- +goose Down
SELECT 1;

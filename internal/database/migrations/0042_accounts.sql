-- +goose Up
-- Freezes end when somebody ends them.
ALTER TABLE account DROP COLUMN frozen_until;

-- +goose Down
ALTER TABLE account ADD COLUMN frozen_until BIGINT NOT NULL DEFAULT 0;

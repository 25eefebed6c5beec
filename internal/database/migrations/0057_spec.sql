-- +goose Up
-- The default specification of a compute set type cannot be deleted.
ALTER TABLE vm_spec ADD COLUMN is_default BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE vm_spec ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
UPDATE vm_spec SET is_default = TRUE WHERE cpus = 1 AND memory_mib = 1024;
UPDATE vm_spec SET updated_at = created_at;

-- +goose Down
ALTER TABLE vm_spec DROP COLUMN updated_at;
ALTER TABLE vm_spec DROP COLUMN is_default;

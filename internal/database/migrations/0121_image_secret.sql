-- +goose Up
ALTER TABLE image ADD COLUMN secret TEXT NOT NULL DEFAULT '';  -- passphrase of an encrypted image, sealed; its machines' system disks have the same

-- +goose Down
ALTER TABLE image DROP COLUMN secret;

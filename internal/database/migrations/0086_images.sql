-- +goose Up
ALTER TABLE image ADD COLUMN os_version TEXT NOT NULL DEFAULT '';
ALTER TABLE image ADD COLUMN can_vgpu BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE image ADD COLUMN progress BIGINT NOT NULL DEFAULT 100;  -- percent
ALTER TABLE image ADD COLUMN reason_code BIGINT NOT NULL DEFAULT 0; -- of the last failure; 0: none
ALTER TABLE image ADD COLUMN source_url TEXT NOT NULL DEFAULT '';   -- where it is imported from, sealed
ALTER TABLE image ADD COLUMN deleted_at BIGINT NOT NULL DEFAULT 0;  -- moved to the bin
ALTER TABLE image ADD COLUMN ended_at BIGINT NOT NULL DEFAULT 0;    -- destroyed: the row is a tombstone
CREATE INDEX image_digest ON image (digest);
CREATE INDEX image_state ON image (state, deleted_at);

-- An image file that its owner uploads in parts.
CREATE TABLE image_upload (
    id         TEXT PRIMARY KEY,
    image_id   TEXT NOT NULL,
    part_size  BIGINT NOT NULL, -- bytes
    most_bytes BIGINT NOT NULL, -- of all parts
    created_at BIGINT NOT NULL,
    expire_at  BIGINT NOT NULL, -- it must be complete until then
    closed     BOOLEAN NOT NULL -- complete: takes no parts any more
);
CREATE INDEX image_upload_image ON image_upload (image_id);
CREATE INDEX image_upload_expire ON image_upload (closed, expire_at);

CREATE TABLE image_part (
    upload_id  TEXT NOT NULL,
    number     BIGINT NOT NULL,
    size       BIGINT NOT NULL, -- bytes
    etag       TEXT NOT NULL,   -- MD5, lower-case hex
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (upload_id, number)
);

-- +goose Down
DROP TABLE image_part;
DROP TABLE image_upload;
DROP INDEX image_state;
DROP INDEX image_digest;
ALTER TABLE image DROP COLUMN ended_at;
ALTER TABLE image DROP COLUMN deleted_at;
ALTER TABLE image DROP COLUMN source_url;
ALTER TABLE image DROP COLUMN reason_code;
ALTER TABLE image DROP COLUMN progress;
ALTER TABLE image DROP COLUMN can_vgpu;
ALTER TABLE image DROP COLUMN os_version;

-- +goose Up
ALTER TABLE storage_set ADD COLUMN media TEXT NOT NULL DEFAULT 'SSD'; -- HDD, SSD, NVMe

ALTER TABLE disk ADD COLUMN remark TEXT NOT NULL DEFAULT '';
ALTER TABLE disk ADD COLUMN quantity BIGINT NOT NULL DEFAULT 1;          -- periods ordered
ALTER TABLE disk ADD COLUMN auto_renew BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE disk ADD COLUMN hidden BOOLEAN NOT NULL DEFAULT FALSE;       -- not shown by DescribeDisk: in the bin, alone or with its machine, or destroyed
ALTER TABLE disk ADD COLUMN reason_code BIGINT NOT NULL DEFAULT 0;       -- of the last failure; its detail is in reason
ALTER TABLE disk ADD COLUMN secret TEXT NOT NULL DEFAULT '';             -- passphrase, sealed; empty: not encrypted
ALTER TABLE disk ADD COLUMN shareable BOOLEAN NOT NULL DEFAULT FALSE;    -- attachments are in disk_share then
ALTER TABLE disk ADD COLUMN from_host TEXT NOT NULL DEFAULT '';          -- where the volume still is while it moves to host_id
ALTER TABLE disk ADD COLUMN left_host TEXT NOT NULL DEFAULT '';          -- where what it was before a move is still to be removed
ALTER TABLE disk ADD COLUMN plug BOOLEAN NOT NULL DEFAULT FALSE;         -- while Bounding: its volume is there, so the machine's host is told of it
ALTER TABLE disk ADD COLUMN written BOOLEAN NOT NULL DEFAULT TRUE;       -- false: nobody can have written to it
ALTER TABLE disk ADD COLUMN src_disk TEXT NOT NULL DEFAULT '';           -- it is a copy of that one
ALTER TABLE disk ADD COLUMN src_snapshot TEXT NOT NULL DEFAULT '';       -- as it was then; empty: of the whole
ALTER TABLE disk ADD COLUMN bootable BOOLEAN NOT NULL DEFAULT FALSE;     -- a data disk with a system on it
ALTER TABLE disk ADD COLUMN limited BOOLEAN NOT NULL DEFAULT FALSE;      -- the limits are its own, not its size's
ALTER TABLE disk ADD COLUMN read_iops BIGINT NOT NULL DEFAULT 0;
ALTER TABLE disk ADD COLUMN write_iops BIGINT NOT NULL DEFAULT 0;
ALTER TABLE disk ADD COLUMN total_iops BIGINT NOT NULL DEFAULT 0;
ALTER TABLE disk ADD COLUMN read_mbps BIGINT NOT NULL DEFAULT 0;         -- megabytes a second
ALTER TABLE disk ADD COLUMN write_mbps BIGINT NOT NULL DEFAULT 0;
ALTER TABLE disk ADD COLUMN total_mbps BIGINT NOT NULL DEFAULT 0;
UPDATE disk SET hidden = TRUE WHERE deleted_at > 0 OR ended_at > 0;
CREATE INDEX disk_shown ON disk (hidden, region, company, created_at, id);
CREATE INDEX disk_left ON disk (left_host) WHERE left_host <> '';
CREATE INDEX disk_source ON disk (src_snapshot) WHERE src_snapshot <> '';
-- Two that are attached at once do not get one name.
CREATE UNIQUE INDEX disk_target ON disk (vm_id, target) WHERE vm_id <> '';

-- A shared disk on one of its machines.
CREATE TABLE disk_share (
    disk_id    TEXT   NOT NULL,
    vm_id      TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    state      TEXT   NOT NULL, -- Bounding, Bound, Unbounding
    plug       BOOLEAN NOT NULL, -- as of disks
    created_at BIGINT NOT NULL,
    PRIMARY KEY (disk_id, vm_id)
);
CREATE UNIQUE INDEX disk_share_target ON disk_share (vm_id, target);

CREATE TABLE snapshot (
    id          TEXT    PRIMARY KEY,
    region      TEXT    NOT NULL,
    company     BIGINT  NOT NULL,
    project     TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    remark      TEXT    NOT NULL,
    disk_id     TEXT    NOT NULL,
    disk_role   TEXT    NOT NULL,
    type        TEXT    NOT NULL, -- Manual, Automatic
    state       TEXT    NOT NULL,
    reason_code BIGINT  NOT NULL,
    reason      TEXT    NOT NULL,
    size_gb     BIGINT  NOT NULL, -- of the disk then
    encrypted   BOOLEAN NOT NULL,
    frozen      BOOLEAN NOT NULL, -- the guest's file systems were at rest
    created_at  BIGINT  NOT NULL,
    updated_at  BIGINT  NOT NULL,
    ended_at    BIGINT  NOT NULL, -- destroyed: the row is a tombstone
    generation  BIGINT  NOT NULL
);
CREATE INDEX snapshot_disk ON snapshot (disk_id);
CREATE INDEX snapshot_list ON snapshot (region, company, created_at, id);

-- What the hosts of a region were last told of the switch of all limits; without a row: on.
CREATE TABLE disk_limit_switch (
    region TEXT    PRIMARY KEY,
    told   BOOLEAN NOT NULL
);

-- +goose Down
DROP TABLE disk_limit_switch;
DROP TABLE snapshot;
DROP TABLE disk_share;
DROP INDEX disk_target;
DROP INDEX disk_source;
DROP INDEX disk_left;
DROP INDEX disk_shown;
ALTER TABLE disk DROP COLUMN total_mbps;
ALTER TABLE disk DROP COLUMN write_mbps;
ALTER TABLE disk DROP COLUMN read_mbps;
ALTER TABLE disk DROP COLUMN total_iops;
ALTER TABLE disk DROP COLUMN write_iops;
ALTER TABLE disk DROP COLUMN read_iops;
ALTER TABLE disk DROP COLUMN limited;
ALTER TABLE disk DROP COLUMN bootable;
ALTER TABLE disk DROP COLUMN src_snapshot;
ALTER TABLE disk DROP COLUMN src_disk;
ALTER TABLE disk DROP COLUMN written;
ALTER TABLE disk DROP COLUMN plug;
ALTER TABLE disk DROP COLUMN left_host;
ALTER TABLE disk DROP COLUMN from_host;
ALTER TABLE disk DROP COLUMN shareable;
ALTER TABLE disk DROP COLUMN secret;
ALTER TABLE disk DROP COLUMN reason_code;
ALTER TABLE disk DROP COLUMN hidden;
ALTER TABLE disk DROP COLUMN auto_renew;
ALTER TABLE disk DROP COLUMN quantity;
ALTER TABLE disk DROP COLUMN remark;
ALTER TABLE storage_set DROP COLUMN media;

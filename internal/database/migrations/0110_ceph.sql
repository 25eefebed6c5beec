-- +goose Up
ALTER TABLE storage_set ADD COLUMN driver TEXT NOT NULL DEFAULT 'Local';  -- Local: each disk on one host; Ceph: in a pool that hosts share
ALTER TABLE storage_set ADD COLUMN ceph TEXT NOT NULL DEFAULT '';         -- JSON: how hosts reach the pool, its key sealed
ALTER TABLE storage_set ADD COLUMN replicas BIGINT NOT NULL DEFAULT 0;    -- of a pool's data, as its administrator says; 0 unknown
ALTER TABLE storage_set ADD COLUMN total_gb BIGINT NOT NULL DEFAULT 0;    -- of a pool, after overcommit; a Local set's is its hosts'
ALTER TABLE storage_set ADD COLUMN used_gb BIGINT NOT NULL DEFAULT 0;     -- taken by disks; likewise

-- +goose Down
ALTER TABLE storage_set DROP COLUMN used_gb;
ALTER TABLE storage_set DROP COLUMN total_gb;
ALTER TABLE storage_set DROP COLUMN replicas;
ALTER TABLE storage_set DROP COLUMN ceph;
ALTER TABLE storage_set DROP COLUMN driver;

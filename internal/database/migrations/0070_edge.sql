-- +goose Up
-- Who may use what the platform offers: sets, base images, external segments. Without a row everybody may.
CREATE TABLE permission (
    kind        TEXT   NOT NULL, -- COMPUTE_SET, STORAGE_SET, BASE_IMAGE, SEGMENT
    resource_id TEXT   NOT NULL,
    mode        TEXT   NOT NULL, -- whitelist, blacklist
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (kind, resource_id)
);
CREATE TABLE permission_tenant (
    kind        TEXT   NOT NULL,
    resource_id TEXT   NOT NULL,
    company     BIGINT NOT NULL,
    PRIMARY KEY (kind, resource_id, company)
);
INSERT INTO permission (kind, resource_id, mode, updated_at) SELECT 'COMPUTE_SET', id, 'whitelist', updated_at FROM compute_set WHERE NOT shared;
INSERT INTO permission (kind, resource_id, mode, updated_at) SELECT 'STORAGE_SET', id, 'whitelist', updated_at FROM storage_set WHERE NOT shared;
INSERT INTO permission_tenant (kind, resource_id, company) SELECT 'COMPUTE_SET', set_id, company FROM set_permission
    WHERE set_id IN (SELECT id FROM compute_set WHERE NOT shared);
INSERT INTO permission_tenant (kind, resource_id, company) SELECT 'STORAGE_SET', set_id, company FROM set_permission
    WHERE set_id IN (SELECT id FROM storage_set WHERE NOT shared);
DROP TABLE set_permission;
ALTER TABLE compute_set DROP COLUMN shared;
ALTER TABLE storage_set DROP COLUMN shared;

-- What leaves by a segment (Default: everything; Specified: its routes; None: what is on it), and how many Mbps
-- its public addresses may have together (0: no limit).
ALTER TABLE segment ADD COLUMN remark TEXT NOT NULL DEFAULT '';
ALTER TABLE segment ADD COLUMN route_mode TEXT NOT NULL DEFAULT 'Default';
ALTER TABLE segment ADD COLUMN bandwidth BIGINT NOT NULL DEFAULT 0;
ALTER TABLE segment ADD COLUMN dhcp BOOLEAN NOT NULL DEFAULT FALSE; -- offered to NICs on it
ALTER TABLE segment ADD COLUMN dhcp_server TEXT NOT NULL DEFAULT ''; -- its address; empty: the gateway's
UPDATE segment SET route_mode = 'None' WHERE gateway = '';

CREATE TABLE segment_route (
    id          TEXT   PRIMARY KEY,
    segment_id  TEXT   NOT NULL,
    destination TEXT   NOT NULL,
    next_hop    TEXT   NOT NULL,
    remark      TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX segment_route_destination ON segment_route (segment_id, destination);

-- A physical IP of older clients: a public address without a bandwidth, a price or a recycle bin.
ALTER TABLE eip ADD COLUMN physical BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX eip_segment ON eip (segment_id);

-- +goose Down
DROP INDEX eip_segment;
ALTER TABLE eip DROP COLUMN physical;
DROP TABLE segment_route;
ALTER TABLE segment DROP COLUMN dhcp_server;
ALTER TABLE segment DROP COLUMN dhcp;
ALTER TABLE segment DROP COLUMN bandwidth;
ALTER TABLE segment DROP COLUMN route_mode;
ALTER TABLE segment DROP COLUMN remark;
ALTER TABLE storage_set ADD COLUMN shared BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE compute_set ADD COLUMN shared BOOLEAN NOT NULL DEFAULT TRUE;
UPDATE storage_set SET shared = FALSE WHERE id IN (SELECT resource_id FROM permission WHERE kind = 'STORAGE_SET');
UPDATE compute_set SET shared = FALSE WHERE id IN (SELECT resource_id FROM permission WHERE kind = 'COMPUTE_SET');
CREATE TABLE set_permission (
    set_id  TEXT   NOT NULL,
    company BIGINT NOT NULL,
    PRIMARY KEY (set_id, company)
);
INSERT INTO set_permission (set_id, company) SELECT resource_id, company FROM permission_tenant WHERE kind IN ('COMPUTE_SET', 'STORAGE_SET');
DROP TABLE permission_tenant;
DROP TABLE permission;

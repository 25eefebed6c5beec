-- +goose Up
CREATE TABLE compute_set (
    id         TEXT    PRIMARY KEY,
    region     TEXT    NOT NULL,
    type       TEXT    NOT NULL,
    alias      TEXT    NOT NULL,
    arch       TEXT    NOT NULL,
    overcommit BIGINT  NOT NULL, -- percent of the threads; memory is never overcommitted
    shared     BOOLEAN NOT NULL, -- for all tenants; else for those of set_permission
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    generation BIGINT  NOT NULL
);
CREATE UNIQUE INDEX compute_set_type ON compute_set (region, type);

CREATE TABLE storage_set (
    id         TEXT    PRIMARY KEY,
    region     TEXT    NOT NULL,
    type       TEXT    NOT NULL,
    alias      TEXT    NOT NULL,
    arch       TEXT    NOT NULL,
    overcommit BIGINT  NOT NULL, -- percent of the disk: volumes are thin
    shared     BOOLEAN NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    generation BIGINT  NOT NULL
);
CREATE UNIQUE INDEX storage_set_type ON storage_set (region, type);

CREATE TABLE set_permission (
    set_id  TEXT   NOT NULL,
    company BIGINT NOT NULL,
    PRIMARY KEY (set_id, company)
);

CREATE TABLE host (
    id           TEXT    PRIMARY KEY,
    region       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    compute_set  TEXT    NOT NULL REFERENCES compute_set (id),
    storage_set  TEXT    NOT NULL REFERENCES storage_set (id),
    address      TEXT    NOT NULL, -- host:port of the agent
    serial       TEXT    NOT NULL, -- of its certificate
    arch         TEXT    NOT NULL,
    virt_type    TEXT    NOT NULL,
    chassis      TEXT    NOT NULL,
    networks     TEXT    NOT NULL, -- JSON array of provider networks
    overlay_mtu  BIGINT  NOT NULL,
    cpu_total    BIGINT  NOT NULL, -- after overcommit
    cpu_used     BIGINT  NOT NULL,
    memory_total BIGINT  NOT NULL, -- MiB
    memory_used  BIGINT  NOT NULL,
    disk_total   BIGINT  NOT NULL, -- GB, after overcommit
    disk_used    BIGINT  NOT NULL,
    locked       BOOLEAN NOT NULL,
    down         BOOLEAN NOT NULL,
    returned_at  BIGINT  NOT NULL, -- when it last came back from down; 0 never
    created_at   BIGINT  NOT NULL,
    updated_at   BIGINT  NOT NULL,
    generation   BIGINT  NOT NULL
);
CREATE UNIQUE INDEX host_name ON host (region, name);
CREATE INDEX host_compute_set ON host (compute_set);

CREATE TABLE host_token (
    id          TEXT   PRIMARY KEY,
    region      TEXT   NOT NULL,
    hash        TEXT   NOT NULL, -- SHA-256 of the token
    name        TEXT   NOT NULL, -- the host it is for; '' any
    compute_set TEXT   NOT NULL,
    host        TEXT   NOT NULL, -- '' until it is used
    expires_at  BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    generation  BIGINT NOT NULL
);
CREATE UNIQUE INDEX host_token_hash ON host_token (hash);

-- Serials of host certificates that are refused though they have not expired.
CREATE TABLE revoked_certificate (
    serial     TEXT   PRIMARY KEY,
    created_at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE revoked_certificate;
DROP TABLE host_token;
DROP TABLE host;
DROP TABLE set_permission;
DROP TABLE storage_set;
DROP TABLE compute_set;

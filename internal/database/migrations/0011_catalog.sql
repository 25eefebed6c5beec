-- +goose Up
-- What the cloud must remember about itself: fingerprint of the key file, the certificate authority.
CREATE TABLE setting (
    name       TEXT   PRIMARY KEY,
    value      TEXT   NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE region (
    id         TEXT   PRIMARY KEY,
    alias      TEXT   NOT NULL,
    endpoint   TEXT   NOT NULL,
    city       TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    remark     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    generation BIGINT NOT NULL
);

-- CPU and memory pairs that a compute set type offers.
CREATE TABLE vm_spec (
    id         TEXT   PRIMARY KEY,
    region     TEXT   NOT NULL,
    vm_type    TEXT   NOT NULL,
    cpus       BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX vm_spec_pair ON vm_spec (region, vm_type, cpus, memory_mib);

-- Sizes that a storage set type or an external segment offers; without a row the default range.
CREATE TABLE range_spec (
    region     TEXT   NOT NULL,
    kind       TEXT   NOT NULL, -- BOOT_DISK, DISK (GB), EIP (Mbps)
    scope      TEXT   NOT NULL, -- storage set type, segment
    minimum    BIGINT NOT NULL,
    maximum    BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    PRIMARY KEY (region, kind, scope)
);

CREATE TABLE quota_default (
    factor TEXT   PRIMARY KEY,
    value  BIGINT NOT NULL
);
INSERT INTO quota_default (factor, value) VALUES
    ('VM', 50), ('CPU', 80), ('MEMORY', 81920), ('DISK', 50), ('DISK_SPACE', 20000), ('EIP', 10),
    ('SECURITY_GROUP', 10), ('VPC', 10), ('SUBNET', 100), ('NIC', 10), ('IMAGE', 10);

-- What a tenant uses in a region. allowance is set when an administrator edited it; else the default holds.
CREATE TABLE quota (
    company   BIGINT NOT NULL,
    region    TEXT   NOT NULL,
    factor    TEXT   NOT NULL,
    used      BIGINT NOT NULL,
    allowance BIGINT,
    PRIMARY KEY (company, region, factor)
);

-- +goose Down
DROP TABLE quota;
DROP TABLE quota_default;
DROP TABLE range_spec;
DROP TABLE vm_spec;
DROP TABLE region;
DROP TABLE setting;

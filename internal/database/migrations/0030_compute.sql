-- +goose Up
CREATE TABLE image (
    id             TEXT PRIMARY KEY,
    region         TEXT NOT NULL,
    company        BIGINT NOT NULL, -- 0: base image, for all tenants
    project        TEXT NOT NULL,
    name           TEXT NOT NULL,
    description    TEXT NOT NULL,
    type           TEXT NOT NULL,   -- Base, Custom
    state          TEXT NOT NULL,
    reason         TEXT NOT NULL,
    format         TEXT NOT NULL,   -- qcow2
    digest         TEXT NOT NULL,   -- SHA-256 of the file, lower-case hex
    size_bytes     BIGINT NOT NULL, -- of the file
    virtual_bytes  BIGINT NOT NULL, -- of the disk in it
    arch           TEXT NOT NULL,
    os_type        TEXT NOT NULL,
    os_name        TEXT NOT NULL,
    os_distribution TEXT NOT NULL,
    login_user     TEXT NOT NULL,
    uefi           BOOLEAN NOT NULL,
    cloud_init     BOOLEAN NOT NULL,
    qga            BOOLEAN NOT NULL,
    hotplug        BOOLEAN NOT NULL,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    generation     BIGINT NOT NULL
);
CREATE INDEX image_list ON image (region, company, created_at, id);

CREATE TABLE vm (
    id             TEXT PRIMARY KEY,
    uuid           TEXT NOT NULL,   -- libvirt's
    region         TEXT NOT NULL,
    company        BIGINT NOT NULL,
    project        TEXT NOT NULL,
    name           TEXT NOT NULL,
    remark         TEXT NOT NULL,
    state          TEXT NOT NULL,
    listed         BOOLEAN NOT NULL, -- shown by DescribeVMInstance: neither in the bin nor destroyed
    reason_code    BIGINT NOT NULL,  -- of the last failure; 0: none
    reason         TEXT NOT NULL,    -- its detail, English
    vm_type        TEXT NOT NULL,
    set_id         TEXT NOT NULL,
    arch           TEXT NOT NULL,
    host_id        TEXT NOT NULL,    -- where its volumes are; empty when it has none
    placed         BOOLEAN NOT NULL, -- holds CPU and memory of host_id
    image_id       TEXT NOT NULL,
    image_name     TEXT NOT NULL,
    os_type        TEXT NOT NULL,
    os_name        TEXT NOT NULL,
    uefi           BOOLEAN NOT NULL,
    cloud_init     BOOLEAN NOT NULL,
    qga            BOOLEAN NOT NULL,
    hotplug        BOOLEAN NOT NULL,
    cpus           BIGINT NOT NULL,
    memory_mib     BIGINT NOT NULL,
    vpc_id         TEXT NOT NULL,
    subnet_id      TEXT NOT NULL,
    port_id        TEXT NOT NULL,
    hostname       TEXT NOT NULL,
    login_user     TEXT NOT NULL,
    dns            TEXT NOT NULL,    -- comma separated
    cpu_mode       TEXT NOT NULL,    -- default, host-passthrough
    ha             TEXT NOT NULL,    -- NeverStop, None
    auto_renew     BOOLEAN NOT NULL,
    qga_connected  BOOLEAN NOT NULL,
    charge_type    TEXT NOT NULL,
    quantity       BIGINT NOT NULL,  -- periods ordered
    restart_serial BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    expire_at      BIGINT NOT NULL,  -- 0: never
    deleted_at     BIGINT NOT NULL,  -- moved to the bin; of a failed one: failed
    ended_at       BIGINT NOT NULL,  -- destroyed: the row is a tombstone
    generation     BIGINT NOT NULL   -- rises with every change of what the host is to do
);
CREATE INDEX vm_created ON vm (listed, region, company, created_at, id);
CREATE INDEX vm_name ON vm (listed, region, company, name, id);
CREATE INDEX vm_expire ON vm (listed, region, company, expire_at, id);
CREATE INDEX vm_host ON vm (host_id);
CREATE INDEX vm_state ON vm (state, deleted_at);
CREATE INDEX vm_subnet ON vm (subnet_id);
CREATE INDEX vm_image ON vm (image_id);

-- How many machines of a tenant DescribeVMInstance lists: a page must not count a hundred thousand rows.
CREATE TABLE vm_count (
    company BIGINT NOT NULL,
    region  TEXT NOT NULL,
    n       BIGINT NOT NULL,
    PRIMARY KEY (company, region)
);

-- What only the guest needs to know, apart from the rows of lists.
CREATE TABLE vm_seed (
    vm_id          TEXT PRIMARY KEY,
    password_hash  TEXT NOT NULL,   -- SHA-512 crypt, sealed
    user_data      TEXT NOT NULL,   -- base64, sealed
    mount_data     TEXT NOT NULL    -- device to format and mount at /data
);

CREATE TABLE disk (
    id             TEXT PRIMARY KEY,
    region         TEXT NOT NULL,
    company        BIGINT NOT NULL,
    project        TEXT NOT NULL,
    name           TEXT NOT NULL,
    role           TEXT NOT NULL,   -- Boot, Data
    state          TEXT NOT NULL,
    reason         TEXT NOT NULL,
    set_type       TEXT NOT NULL,
    set_id         TEXT NOT NULL,
    host_id        TEXT NOT NULL,
    size_gb        BIGINT NOT NULL,
    image_digest   TEXT NOT NULL,   -- of the image it started from
    vm_id          TEXT NOT NULL,   -- empty: bound to none
    target         TEXT NOT NULL,   -- vda, vdb, ...
    charge_type    TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    expire_at      BIGINT NOT NULL,
    deleted_at     BIGINT NOT NULL,
    ended_at       BIGINT NOT NULL,
    generation     BIGINT NOT NULL
);
CREATE INDEX disk_vm ON disk (vm_id, target);
CREATE INDEX disk_host ON disk (host_id);
CREATE INDEX disk_state ON disk (state, deleted_at);
CREATE INDEX disk_list ON disk (region, company, created_at, id);

-- +goose Down
DROP TABLE disk;
DROP TABLE vm_seed;
DROP TABLE vm_count;
DROP TABLE vm;
DROP TABLE image;

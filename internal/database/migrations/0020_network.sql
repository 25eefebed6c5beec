-- +goose Up
-- Times are unix microseconds. region, company and project say whose a row is.
CREATE TABLE vpc (
    id         TEXT    PRIMARY KEY,
    region     TEXT    NOT NULL,
    company    BIGINT  NOT NULL,
    project    TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    remark     TEXT    NOT NULL,
    cidr       TEXT    NOT NULL,
    is_default BOOLEAN NOT NULL,
    state      TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    generation BIGINT  NOT NULL
);
CREATE INDEX vpc_list ON vpc (region, company, created_at, id);
CREATE UNIQUE INDEX vpc_default ON vpc (region, company) WHERE is_default;

-- used and position belong to the pool of addresses: used counts rows of address,
-- position is where the search for the next free one goes on.
CREATE TABLE subnet (
    id         TEXT    PRIMARY KEY,
    vpc_id     TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    company    BIGINT  NOT NULL,
    project    TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    remark     TEXT    NOT NULL,
    cidr       TEXT    NOT NULL,
    dns        TEXT    NOT NULL, -- comma separated; empty: the region's
    is_default BOOLEAN NOT NULL,
    state      TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    capacity   BIGINT  NOT NULL,
    used       BIGINT  NOT NULL,
    position   BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    generation BIGINT  NOT NULL
);
CREATE INDEX subnet_vpc ON subnet (vpc_id);
CREATE INDEX subnet_list ON subnet (region, company, created_at, id);

CREATE TABLE segment (
    id         TEXT    PRIMARY KEY,
    region     TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    ip_version TEXT    NOT NULL, -- IPv4, IPv6
    cidr       TEXT    NOT NULL,
    ranges     TEXT    NOT NULL, -- JSON array of [first, last] offsets in cidr
    gateway    TEXT    NOT NULL, -- empty: no default route
    vlan       BIGINT  NOT NULL, -- 0: untagged
    network    TEXT    NOT NULL, -- provider network, as in the hosts' bridge mappings
    capacity   BIGINT  NOT NULL,
    used       BIGINT  NOT NULL,
    position   BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    generation BIGINT  NOT NULL
);
CREATE UNIQUE INDEX segment_name ON segment (region, name);

-- An address that somebody has. pool is a subnet or a segment, num the address' offset in its network.
CREATE TABLE address (
    pool       TEXT   NOT NULL,
    num        BIGINT NOT NULL,
    owner_kind TEXT   NOT NULL, -- port, eip, gateway
    owner_id   TEXT   NOT NULL,
    PRIMARY KEY (pool, num)
);

-- A NIC. uuid names the logical port and libvirt's interface. kept: its owner is in the recycle
-- bin, so that the address stays reserved and the port is in no network.
CREATE TABLE port (
    id         TEXT    PRIMARY KEY,
    uuid       TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    company    BIGINT  NOT NULL,
    vpc_id     TEXT    NOT NULL,
    subnet_id  TEXT    NOT NULL,
    mac        TEXT    NOT NULL,
    ip         TEXT    NOT NULL,
    num        BIGINT  NOT NULL,
    hostname   TEXT    NOT NULL,
    owner_kind TEXT    NOT NULL,
    owner_id   TEXT    NOT NULL,
    inner_sg   TEXT    NOT NULL,
    outer_sg   TEXT    NOT NULL,
    host_id    TEXT    NOT NULL,
    kept       BOOLEAN NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    generation BIGINT  NOT NULL
);
CREATE UNIQUE INDEX port_mac ON port (mac);
CREATE INDEX port_vpc ON port (vpc_id);
CREATE INDEX port_owner ON port (owner_id);
CREATE INDEX port_inner_sg ON port (inner_sg);
CREATE INDEX port_outer_sg ON port (outer_sg);

-- The router of a VPC on a segment. uses counts the EIPs that need it; the last one takes it away.
CREATE TABLE gateway (
    vpc_id     TEXT   NOT NULL,
    segment_id TEXT   NOT NULL,
    ip         TEXT   NOT NULL,
    num        BIGINT NOT NULL,
    mac        TEXT   NOT NULL,
    uses       BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (vpc_id, segment_id)
);

CREATE TABLE eip (
    id          TEXT    PRIMARY KEY,
    region      TEXT    NOT NULL,
    company     BIGINT  NOT NULL,
    project     TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    remark      TEXT    NOT NULL,
    segment_id  TEXT    NOT NULL,
    ip_version  TEXT    NOT NULL,
    ip          TEXT    NOT NULL,
    num         BIGINT  NOT NULL,
    bandwidth   BIGINT  NOT NULL, -- Mbps
    charge_type TEXT    NOT NULL,
    quantity    BIGINT  NOT NULL,
    auto_renew  BOOLEAN NOT NULL,
    state       TEXT    NOT NULL,
    listed      BOOLEAN NOT NULL, -- shown by DescribeEIP: neither in the bin nor destroyed
    reason      TEXT    NOT NULL,
    bind_kind   TEXT    NOT NULL, -- VM; empty: not bound
    bind_id     TEXT    NOT NULL,
    port_id     TEXT    NOT NULL,
    vpc_id      TEXT    NOT NULL,
    egress      BOOLEAN NOT NULL, -- default egress of its port and version
    bound_at    BIGINT  NOT NULL,
    expire_at   BIGINT  NOT NULL, -- 0: never
    created_at  BIGINT  NOT NULL,
    updated_at  BIGINT  NOT NULL,
    deleted_at  BIGINT  NOT NULL,
    ended_at    BIGINT  NOT NULL,
    generation  BIGINT  NOT NULL
);
CREATE INDEX eip_list ON eip (listed, region, company, created_at, id);
CREATE INDEX eip_port ON eip (port_id);
CREATE INDEX eip_bind ON eip (bind_id);
CREATE INDEX eip_vpc ON eip (vpc_id);
CREATE INDEX eip_state ON eip (state, deleted_at);

CREATE TABLE security_group (
    id         TEXT    PRIMARY KEY,
    region     TEXT    NOT NULL,
    company    BIGINT  NOT NULL,
    project    TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    remark     TEXT    NOT NULL,
    is_default BOOLEAN NOT NULL,
    state      TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    generation BIGINT  NOT NULL
);
CREATE INDEX security_group_list ON security_group (region, company, created_at, id);
CREATE UNIQUE INDEX security_group_default ON security_group (region, company) WHERE is_default;

CREATE TABLE sg_rule (
    id         TEXT    PRIMARY KEY,
    sg_id      TEXT    NOT NULL,
    protocol   TEXT    NOT NULL,
    ports      TEXT    NOT NULL,
    remote     TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    priority   TEXT    NOT NULL,
    ingress    BOOLEAN NOT NULL,
    remark     TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL
);
-- What a rule is about; it can be accepted or dropped, once.
CREATE UNIQUE INDEX sg_rule_match ON sg_rule (sg_id, ingress, protocol, ports, remote);

-- +goose Down
DROP TABLE sg_rule;
DROP TABLE security_group;
DROP TABLE eip;
DROP TABLE gateway;
DROP TABLE port;
DROP TABLE address;
DROP TABLE segment;
DROP TABLE subnet;
DROP TABLE vpc;

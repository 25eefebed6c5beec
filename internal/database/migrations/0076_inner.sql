-- +goose Up
-- Links get ids of their own; none was made under 0075. vpc_id is the smaller id of the two. num chooses the
-- addresses between the two routers: either VPC uses it once.
DROP TABLE peering;
CREATE TABLE peering (
    id          TEXT   PRIMARY KEY,
    vpc_id      TEXT   NOT NULL,
    peer_id     TEXT   NOT NULL,
    region      TEXT   NOT NULL,
    company     BIGINT NOT NULL,
    num         BIGINT NOT NULL,
    state       TEXT   NOT NULL, -- Allocating, Available, Deleting
    reason      TEXT   NOT NULL,
    reason_code BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    generation  BIGINT NOT NULL
);
CREATE UNIQUE INDEX peering_pair ON peering (vpc_id, peer_id);
CREATE INDEX peering_peer ON peering (peer_id);

-- A port is in a subnet, or (an outer NIC, an outer VIP) on a segment. Mbps of what it receives and sends; 0:
-- unlimited. NIC, VIP: what the port is, beside the VM's own.
ALTER TABLE port ADD COLUMN segment_id TEXT NOT NULL DEFAULT '';
ALTER TABLE port ADD COLUMN in_mbps BIGINT NOT NULL DEFAULT 1000;
ALTER TABLE port ADD COLUMN out_mbps BIGINT NOT NULL DEFAULT 1000;
CREATE INDEX port_segment ON port (segment_id);
CREATE INDEX port_subnet ON port (subnet_id);

-- An elastic NIC; its port has the same id, and is kept while it is Free.
CREATE TABLE nic (
    id          TEXT    PRIMARY KEY,
    region      TEXT    NOT NULL,
    company     BIGINT  NOT NULL,
    project     TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    remark      TEXT    NOT NULL,
    kind        TEXT    NOT NULL, -- LAN, WAN
    vpc_id      TEXT    NOT NULL,
    subnet_id   TEXT    NOT NULL,
    segment_id  TEXT    NOT NULL,
    bandwidth   BIGINT  NOT NULL, -- Mbps, of WAN
    charge_type TEXT    NOT NULL,
    quantity    BIGINT  NOT NULL,
    auto_renew  BOOLEAN NOT NULL,
    state       TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    reason_code BIGINT  NOT NULL,
    bind_kind   TEXT    NOT NULL, -- VM; empty: not attached
    bind_id     TEXT    NOT NULL,
    expire_at   BIGINT  NOT NULL, -- 0: never
    created_at  BIGINT  NOT NULL,
    updated_at  BIGINT  NOT NULL,
    ended_at    BIGINT  NOT NULL,
    generation  BIGINT  NOT NULL
);
CREATE INDEX nic_list ON nic (region, company, created_at, id);
CREATE INDEX nic_bind ON nic (bind_id);

-- A virtual address; its port has the same id. Carriers are the ports that may announce it.
CREATE TABLE vip (
    id          TEXT    PRIMARY KEY,
    region      TEXT    NOT NULL,
    company     BIGINT  NOT NULL,
    project     TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    remark      TEXT    NOT NULL,
    kind        TEXT    NOT NULL, -- LAN, WAN
    vpc_id      TEXT    NOT NULL,
    subnet_id   TEXT    NOT NULL,
    segment_id  TEXT    NOT NULL,
    bandwidth   BIGINT  NOT NULL, -- Mbps, of WAN
    charge_type TEXT    NOT NULL,
    quantity    BIGINT  NOT NULL,
    carried_by  TEXT    NOT NULL, -- VM, ELASTIC_NIC
    state       TEXT    NOT NULL, -- Allocating, Available, Updating, Deleting, Failed
    reason      TEXT    NOT NULL,
    reason_code BIGINT  NOT NULL,
    expire_at   BIGINT  NOT NULL,
    created_at  BIGINT  NOT NULL,
    updated_at  BIGINT  NOT NULL,
    ended_at    BIGINT  NOT NULL,
    generation  BIGINT  NOT NULL
);
CREATE INDEX vip_list ON vip (region, company, created_at, id);
CREATE TABLE vip_carrier (
    vip_id      TEXT NOT NULL,
    port_id     TEXT NOT NULL,
    resource_id TEXT NOT NULL, -- the VM or NIC as the tenant named it
    PRIMARY KEY (vip_id, port_id)
);
CREATE INDEX vip_carrier_port ON vip_carrier (port_id);

-- +goose Down
DROP TABLE vip_carrier;
DROP TABLE vip;
DROP TABLE nic;
DROP INDEX port_subnet;
DROP INDEX port_segment;
ALTER TABLE port DROP COLUMN out_mbps;
ALTER TABLE port DROP COLUMN in_mbps;
ALTER TABLE port DROP COLUMN segment_id;
DROP TABLE peering;
CREATE TABLE peering (
    vpc_id      TEXT   NOT NULL,
    peer_id     TEXT   NOT NULL,
    region      TEXT   NOT NULL,
    company     BIGINT NOT NULL,
    num         BIGINT NOT NULL,
    state       TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    reason_code BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    generation  BIGINT NOT NULL,
    PRIMARY KEY (vpc_id, peer_id)
);
CREATE INDEX peering_peer ON peering (peer_id);

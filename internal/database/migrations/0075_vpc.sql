-- +goose Up
-- VPCs and subnets made and removed by their tenants. A removed one stays as a tombstone (ended_at).
ALTER TABLE vpc ADD COLUMN gateway_on BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE vpc ADD COLUMN reason_code BIGINT NOT NULL DEFAULT 0;
ALTER TABLE vpc ADD COLUMN ended_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE subnet ADD COLUMN gateway TEXT NOT NULL DEFAULT ''; -- the router's address; empty: the first usable
ALTER TABLE subnet ADD COLUMN reason_code BIGINT NOT NULL DEFAULT 0;
ALTER TABLE subnet ADD COLUMN ended_at BIGINT NOT NULL DEFAULT 0;

-- A subnet's own route. hop_type VM, VIP: hop is its id; Custom: an address.
CREATE TABLE route (
    id          TEXT   PRIMARY KEY,
    vpc_id      TEXT   NOT NULL,
    subnet_id   TEXT   NOT NULL,
    destination TEXT   NOT NULL,
    hop_type    TEXT   NOT NULL,
    hop         TEXT   NOT NULL,
    remark      TEXT   NOT NULL,
    state       TEXT   NOT NULL, -- Creating, Available, Updating, Deleting
    reason      TEXT   NOT NULL,
    reason_code BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    generation  BIGINT NOT NULL
);
CREATE UNIQUE INDEX route_destination ON route (subnet_id, destination);
CREATE INDEX route_vpc ON route (vpc_id);
CREATE INDEX route_hop ON route (hop);

-- A link of two VPCs: vpc_id is the smaller id. num chooses the addresses between the two routers; it is
-- used once by either VPC.
CREATE TABLE peering (
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
    generation  BIGINT NOT NULL,
    PRIMARY KEY (vpc_id, peer_id)
);
CREATE INDEX peering_peer ON peering (peer_id);

-- +goose Down
DROP TABLE peering;
DROP TABLE route;
ALTER TABLE subnet DROP COLUMN ended_at;
ALTER TABLE subnet DROP COLUMN reason_code;
ALTER TABLE subnet DROP COLUMN gateway;
ALTER TABLE vpc DROP COLUMN ended_at;
ALTER TABLE vpc DROP COLUMN reason_code;
ALTER TABLE vpc DROP COLUMN gateway_on;

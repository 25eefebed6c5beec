-- +goose Up
-- Addresses or ports under one name, which rules refer to by the id in place of an address or a port.
CREATE TABLE entry_group (
    id          TEXT   PRIMARY KEY, -- ipgroup-..., portgroup-...
    region      TEXT   NOT NULL,
    company     BIGINT NOT NULL,
    project     TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    remark      TEXT   NOT NULL,
    kind        TEXT   NOT NULL, -- ip, port
    entries     TEXT   NOT NULL, -- comma separated, in canonical form
    state       TEXT   NOT NULL, -- available, updating
    reason      TEXT   NOT NULL,
    reason_code BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    generation  BIGINT NOT NULL
);
CREATE INDEX entry_group_list ON entry_group (region, company, kind, created_at, id);
CREATE INDEX sg_rule_remote ON sg_rule (remote);
CREATE INDEX sg_rule_ports ON sg_rule (ports);

-- A deleted security group stays as a tombstone for a while.
ALTER TABLE security_group ADD COLUMN ended_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE security_group DROP COLUMN ended_at;
DROP INDEX sg_rule_ports;
DROP INDEX sg_rule_remote;
DROP TABLE entry_group;

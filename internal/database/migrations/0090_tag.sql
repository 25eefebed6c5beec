-- +goose Up
-- A tag that a tenant made, and what bears it: one value of a key a resource.
CREATE TABLE tag (
    id         TEXT   PRIMARY KEY,
    company    BIGINT NOT NULL,
    key        TEXT   NOT NULL,
    value      TEXT   NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX tag_pair ON tag (company, key, value);

CREATE TABLE tag_binding (
    resource_id TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    value       TEXT   NOT NULL,
    company     BIGINT NOT NULL,
    region      TEXT   NOT NULL,
    kind        TEXT   NOT NULL, -- of the directory
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (resource_id, key)
);
CREATE INDEX tag_binding_pair ON tag_binding (company, key, value, resource_id);

-- +goose Down
DROP TABLE tag_binding;
DROP TABLE tag;

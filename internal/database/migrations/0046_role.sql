-- +goose Up
-- What accounts may do: roles list actions, grants give an account a role in a project group or in the whole tenant.
CREATE TABLE role (
    id         TEXT   PRIMARY KEY,
    company    BIGINT NOT NULL, -- 0: built in, for all tenants
    name       TEXT   NOT NULL,
    remark     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    generation BIGINT NOT NULL
);
CREATE UNIQUE INDEX role_name ON role (company, name);
INSERT INTO role (id, company, name, remark, created_at, updated_at, generation) VALUES
    ('role-00000000000001', 0, 'administrator', 'everything in the tenant', 0, 0, 0),
    ('role-00000000000002', 0, 'read-only', 'looks at everything, changes nothing', 0, 0, 0);

CREATE TABLE role_permission (
    role_id TEXT NOT NULL,
    action  TEXT NOT NULL,
    PRIMARY KEY (role_id, action)
);

CREATE TABLE role_grant (
    id         TEXT   PRIMARY KEY,
    company    BIGINT NOT NULL,
    account    BIGINT NOT NULL,
    role_id    TEXT   NOT NULL,
    project    TEXT   NOT NULL, -- empty: the whole tenant
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX role_grant_once ON role_grant (account, role_id, project);
CREATE INDEX role_grant_role ON role_grant (role_id);
CREATE INDEX role_grant_project ON role_grant (project);
CREATE INDEX role_grant_company ON role_grant (company, created_at, id);

-- Services that are closed: company 0 closes one for all tenants of a region.
CREATE TABLE service_closed (
    region     TEXT   NOT NULL,
    product    TEXT   NOT NULL,
    company    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (region, product, company)
);

-- +goose Down
DROP TABLE service_closed;
DROP TABLE role_grant;
DROP TABLE role_permission;
DROP TABLE role;

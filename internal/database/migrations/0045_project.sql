-- +goose Up
-- Project groups of tenants. The id of a tenant's default group follows from the tenant's.
CREATE TABLE project (
    id         TEXT    PRIMARY KEY,
    company    BIGINT  NOT NULL,
    name       TEXT    NOT NULL,
    remark     TEXT    NOT NULL,
    is_default BOOLEAN NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    generation BIGINT  NOT NULL
);
CREATE UNIQUE INDEX project_name ON project (company, name);

INSERT INTO project (id, company, name, remark, is_default, created_at, updated_at, generation)
    SELECT 'project-' || substr('00000000000000' || CAST(id AS TEXT), length(CAST(id AS TEXT)) + 1), id, 'default', '', TRUE, created_at, created_at, 0 FROM tenant;

-- What tenants made before there were groups.
UPDATE vpc SET project = 'project-' || substr('00000000000000' || CAST(company AS TEXT), length(CAST(company AS TEXT)) + 1) WHERE project = '' AND company <> 0;
UPDATE subnet SET project = 'project-' || substr('00000000000000' || CAST(company AS TEXT), length(CAST(company AS TEXT)) + 1) WHERE project = '' AND company <> 0;
UPDATE eip SET project = 'project-' || substr('00000000000000' || CAST(company AS TEXT), length(CAST(company AS TEXT)) + 1) WHERE project = '' AND company <> 0;
UPDATE security_group SET project = 'project-' || substr('00000000000000' || CAST(company AS TEXT), length(CAST(company AS TEXT)) + 1) WHERE project = '' AND company <> 0;
UPDATE image SET project = 'project-' || substr('00000000000000' || CAST(company AS TEXT), length(CAST(company AS TEXT)) + 1) WHERE project = '' AND company <> 0;
UPDATE vm SET project = 'project-' || substr('00000000000000' || CAST(company AS TEXT), length(CAST(company AS TEXT)) + 1) WHERE project = '' AND company <> 0;
UPDATE disk SET project = 'project-' || substr('00000000000000' || CAST(company AS TEXT), length(CAST(company AS TEXT)) + 1) WHERE project = '' AND company <> 0;

-- +goose Down
DROP TABLE project;

-- +goose Up
-- Requests that wait for an approval, or had one. The request itself is sealed: passwords may be in it.
CREATE TABLE application (
    id            TEXT   PRIMARY KEY,
    company       BIGINT NOT NULL,
    region        TEXT   NOT NULL,
    project       TEXT   NOT NULL,
    name          TEXT   NOT NULL,
    reason        TEXT   NOT NULL,
    resource_type TEXT   NOT NULL,
    action        TEXT   NOT NULL,
    applicant     BIGINT NOT NULL,
    state         TEXT   NOT NULL, -- Pending, Processing, Success, Failed, Rejected
    flow          TEXT   NOT NULL, -- approval_flow; empty: the built-in one
    request       TEXT   NOT NULL, -- sealed JSON
    shown         TEXT   NOT NULL, -- JSON without secrets
    price         BIGINT NOT NULL, -- 1/10,000 yuan, when it was asked for
    resources     TEXT   NOT NULL, -- JSON list
    executed_at   BIGINT NOT NULL, -- when the request's transaction was committed; 0: not yet
    code          BIGINT NOT NULL,
    message       TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);
CREATE INDEX application_list ON application (company, created_at, id);
CREATE INDEX application_state ON application (state, created_at, id);
CREATE INDEX application_flow ON application (flow, state);

CREATE TABLE application_node (
    id          TEXT    PRIMARY KEY,
    application TEXT    NOT NULL,
    position    BIGINT  NOT NULL,
    name        TEXT    NOT NULL,
    handler     BIGINT  NOT NULL, -- account; 0: any administrator
    automatic   BOOLEAN NOT NULL,
    observers   TEXT    NOT NULL, -- JSON list of accounts
    state       TEXT    NOT NULL, -- Waiting, Pending, Approved, Rejected
    handled_by  BIGINT  NOT NULL, -- 0: nobody, or nobody but itself
    remark      TEXT    NOT NULL,
    created_at  BIGINT  NOT NULL,
    updated_at  BIGINT  NOT NULL
);
CREATE UNIQUE INDEX application_node_order ON application_node (application, position);
CREATE INDEX application_node_handler ON application_node (state, handler);

-- Operations that an application's request started.
CREATE TABLE application_operation (
    application TEXT NOT NULL,
    operation   TEXT NOT NULL,
    PRIMARY KEY (application, operation)
);

CREATE TABLE approval_flow (
    id             TEXT    PRIMARY KEY,
    company        BIGINT  NOT NULL,
    name           TEXT    NOT NULL,
    remark         TEXT    NOT NULL,
    platform       BOOLEAN NOT NULL, -- made by an administrator; else an administrator has the last word
    nodes          TEXT    NOT NULL, -- JSON list
    created_at     BIGINT  NOT NULL,
    updated_at     BIGINT  NOT NULL
);
CREATE TABLE approval_flow_type (
    company       BIGINT NOT NULL,
    resource_type TEXT   NOT NULL,
    flow          TEXT   NOT NULL,
    PRIMARY KEY (company, resource_type)
);
CREATE INDEX approval_flow_type_flow ON approval_flow_type (flow);

-- +goose Down
DROP TABLE approval_flow_type;
DROP TABLE approval_flow;
DROP TABLE application_operation;
DROP TABLE application_node;
DROP TABLE application;

-- +goose Up

-- What runs, ran, and how it ended: read by the API, the console and operators.
CREATE TABLE operation (
    id         TEXT    NOT NULL PRIMARY KEY,
    workflow   TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    company    BIGINT  NOT NULL,
    region     TEXT    NOT NULL,
    resources  TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    step       TEXT    NOT NULL,
    code       BIGINT  NOT NULL,
    message    TEXT    NOT NULL,
    input      TEXT    NOT NULL, -- JSON of the state at Accept
    undo       TEXT    NOT NULL, -- JSON of what the undoing starts from; empty before
    cancel     BOOLEAN NOT NULL,
    attempts   BIGINT  NOT NULL, -- starts, over all crashes
    epoch      BIGINT  NOT NULL, -- of the leader that runs it
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL,
    ended_at   BIGINT  NOT NULL
);
-- The sweep looks for what has not ended; few rows at any time.
CREATE INDEX operation_open ON operation (created_at) WHERE ended_at = 0;
CREATE INDEX operation_ended ON operation (ended_at) WHERE ended_at <> 0;

-- The head of a resource's locks: one row while anybody holds one, so that two
-- operations that want it meet on this row in either engine.
CREATE TABLE resource_lock (
    resource_id TEXT   NOT NULL PRIMARY KEY,
    exclusive   TEXT   NOT NULL,
    shared      BIGINT NOT NULL
);

-- Who holds what.
CREATE TABLE operation_lock (
    resource_id  TEXT    NOT NULL,
    operation_id TEXT    NOT NULL,
    exclusive    BOOLEAN NOT NULL,
    PRIMARY KEY (resource_id, operation_id)
);
CREATE INDEX operation_lock_operation ON operation_lock (operation_id);

-- Which controller leads. The epoch only grows; agents refuse a lower one.
CREATE TABLE lease (
    name    TEXT   NOT NULL PRIMARY KEY,
    holder  TEXT   NOT NULL,
    epoch   BIGINT NOT NULL,
    expires BIGINT NOT NULL
);

-- +goose Down
DROP TABLE lease;
DROP TABLE operation_lock;
DROP TABLE resource_lock;
DROP TABLE operation;

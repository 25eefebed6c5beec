-- +goose Up
-- What happened to a resource, the same thing once with how often.
CREATE TABLE resource_event (
    id            TEXT   PRIMARY KEY,
    region        TEXT   NOT NULL,
    company       BIGINT NOT NULL,
    project       TEXT   NOT NULL, -- follows the resource's
    resource_id   TEXT   NOT NULL,
    resource_name TEXT   NOT NULL, -- at the last time
    kind          TEXT   NOT NULL,
    type          TEXT   NOT NULL, -- Lifecycle, Operations
    level         TEXT   NOT NULL, -- Info, Warning, Error
    name          TEXT   NOT NULL, -- what happened: an action's name, or one of the cloud's own
    code          BIGINT NOT NULL, -- why it failed; 0: it did not
    detail        TEXT   NOT NULL,
    count         BIGINT NOT NULL,
    first_at      BIGINT NOT NULL,
    last_at       BIGINT NOT NULL
);
CREATE UNIQUE INDEX resource_event_same ON resource_event (resource_id, name, code);
CREATE INDEX resource_event_list ON resource_event (company, last_at, id);
CREATE INDEX resource_event_old ON resource_event (last_at);

-- +goose Down
DROP TABLE resource_event;

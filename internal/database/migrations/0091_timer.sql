-- +goose Up
CREATE TABLE timer (
    id         TEXT   PRIMARY KEY,
    region     TEXT   NOT NULL,
    company    BIGINT NOT NULL,
    project    TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    remark     TEXT   NOT NULL,
    task       TEXT   NOT NULL,
    schedule   TEXT   NOT NULL, -- JSON
    resources  TEXT   NOT NULL, -- JSON array of ids
    keep       BIGINT NOT NULL, -- of what a run made for one resource
    next_at    BIGINT NOT NULL, -- 0: never again
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    generation BIGINT NOT NULL
);
CREATE INDEX timer_list ON timer (region, company, created_at, id);
CREATE INDEX timer_due ON timer (next_at) WHERE next_at > 0;

-- A run of a job on one resource. It is written with the job's next time, so that no run is lost or doubled.
CREATE TABLE timer_task (
    id          TEXT   PRIMARY KEY,
    timer_id    TEXT   NOT NULL,
    resource_id TEXT   NOT NULL,
    state       TEXT   NOT NULL, -- Waiting, Running, Success, Failed
    operation   TEXT   NOT NULL,
    made        TEXT   NOT NULL, -- id of what it made; empty: nothing, or removed since
    message     TEXT   NOT NULL,
    begun_at    BIGINT NOT NULL,
    ended_at    BIGINT NOT NULL
);
CREATE INDEX timer_task_list ON timer_task (timer_id, begun_at, id);
CREATE INDEX timer_task_open ON timer_task (state, begun_at) WHERE ended_at = 0;

-- +goose Down
DROP TABLE timer_task;
DROP TABLE timer;

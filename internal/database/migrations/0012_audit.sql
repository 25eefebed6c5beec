-- +goose Up
CREATE TABLE audit_entry (
    id         BIGINT  PRIMARY KEY,
    region     TEXT    NOT NULL,
    company    BIGINT  NOT NULL, -- tenant acted on
    account    BIGINT  NOT NULL, -- 0: the platform itself
    email      TEXT    NOT NULL,
    administrator BOOLEAN NOT NULL,
    action     TEXT    NOT NULL,
    module     TEXT    NOT NULL,
    resources  TEXT    NOT NULL, -- JSON array of ids
    operation  TEXT    NOT NULL, -- '' when nothing went on after the answer
    request    TEXT    NOT NULL, -- request id
    client_ip  TEXT    NOT NULL,
    code       BIGINT  NOT NULL,
    detail     TEXT    NOT NULL, -- of the failure, English
    ended      BOOLEAN NOT NULL, -- the outcome is final
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL
);
CREATE INDEX audit_entry_company ON audit_entry (company, created_at);
CREATE INDEX audit_entry_created ON audit_entry (created_at);
CREATE INDEX audit_entry_operation ON audit_entry (operation);

-- +goose Down
DROP TABLE audit_entry;

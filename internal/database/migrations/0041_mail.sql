-- +goose Up
-- Mail to be sent. Whatever wants one sent writes it here in its own transaction.
CREATE TABLE mail_outbox (
    id         BIGINT PRIMARY KEY,
    message    TEXT   NOT NULL, -- sealed: it may hold codes
    attempts   BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,
    until_at   BIGINT NOT NULL, -- after which it is of no use any more
    created_at BIGINT NOT NULL
);
CREATE INDEX mail_outbox_next ON mail_outbox (next_at);

-- +goose Down
DROP TABLE mail_outbox;

-- +goose Up
CREATE TABLE tenant (
    id         BIGINT PRIMARY KEY,
    name       TEXT   NOT NULL,
    state      TEXT   NOT NULL, -- AVAILABLE, FREEZE
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    generation BIGINT NOT NULL
);

CREATE TABLE account (
    id            BIGINT PRIMARY KEY,
    company       BIGINT NOT NULL REFERENCES tenant (id),
    name          TEXT   NOT NULL,
    email         TEXT   NOT NULL, -- login name, lower case
    kind          TEXT   NOT NULL, -- main, administrator
    state         TEXT   NOT NULL, -- AVAILABLE, FREEZE
    password_hash TEXT   NOT NULL, -- argon2id
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    generation    BIGINT NOT NULL
);
CREATE UNIQUE INDEX account_email ON account (email);
CREATE INDEX account_company ON account (company, id);

CREATE TABLE key_pair (
    public_key  TEXT    PRIMARY KEY,
    account     BIGINT  NOT NULL REFERENCES account (id),
    private_key TEXT    NOT NULL, -- sealed
    disabled    BOOLEAN NOT NULL,
    created_at  BIGINT  NOT NULL,
    updated_at  BIGINT  NOT NULL,
    generation  BIGINT  NOT NULL
);
CREATE INDEX key_pair_account ON key_pair (account);

-- +goose Down
DROP TABLE key_pair;
DROP TABLE account;
DROP TABLE tenant;

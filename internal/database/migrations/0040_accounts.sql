-- +goose Up
ALTER TABLE tenant ADD COLUMN remark TEXT NOT NULL DEFAULT '';
ALTER TABLE tenant ADD COLUMN approval BOOLEAN NOT NULL DEFAULT FALSE;      -- changes need an administrator's approval
ALTER TABLE tenant ADD COLUMN auto_approval BOOLEAN NOT NULL DEFAULT FALSE; -- which is given by itself
ALTER TABLE tenant ADD COLUMN allow_list TEXT NOT NULL DEFAULT '';          -- networks, comma separated; empty: anywhere
ALTER TABLE tenant ADD COLUMN allow_list_at BIGINT NOT NULL DEFAULT 0;

ALTER TABLE account ADD COLUMN level TEXT NOT NULL DEFAULT '';              -- of administrators: system, region
ALTER TABLE account ADD COLUMN read_only BOOLEAN NOT NULL DEFAULT FALSE;    -- of administrators
ALTER TABLE account ADD COLUMN phone TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN language TEXT NOT NULL DEFAULT 'zh';
ALTER TABLE account ADD COLUMN oauth_id TEXT NOT NULL DEFAULT '';           -- at a foreign provider
ALTER TABLE account ADD COLUMN allow_list TEXT NOT NULL DEFAULT '';         -- of administrators; tenants have one for all
ALTER TABLE account ADD COLUMN password_at BIGINT NOT NULL DEFAULT 0;       -- when it was set
ALTER TABLE account ADD COLUMN must_change BOOLEAN NOT NULL DEFAULT FALSE;  -- the password, at the next login
ALTER TABLE account ADD COLUMN frozen_until BIGINT NOT NULL DEFAULT 0;      -- a freeze that ends by itself; 0: it does not
ALTER TABLE account ADD COLUMN login_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN login_ip TEXT NOT NULL DEFAULT '';
UPDATE account SET level = 'system' WHERE kind = 'administrator';
UPDATE account SET password_at = created_at;

-- Regions of an administrator whose level is region.
CREATE TABLE account_region (
    account BIGINT NOT NULL REFERENCES account (id),
    region  TEXT   NOT NULL,
    PRIMARY KEY (account, region)
);

-- Regions granted to a tenant. A tenant without rows has all; a row stays when the grant is taken back, since
-- what the tenant was furnished with there stays, too.
CREATE TABLE tenant_region (
    company    BIGINT  NOT NULL REFERENCES tenant (id),
    region     TEXT    NOT NULL,
    granted    BOOLEAN NOT NULL,
    created_at BIGINT  NOT NULL,
    PRIMARY KEY (company, region)
);

-- Ids of tenants and accounts are never given twice.
CREATE TABLE identity_counter (
    name  TEXT   PRIMARY KEY, -- tenant, account
    value BIGINT NOT NULL     -- the last one given
);
INSERT INTO identity_counter (name, value) SELECT 'tenant', coalesce(max(id), 200000230) FROM tenant;
INSERT INTO identity_counter (name, value) SELECT 'account', coalesce(max(id), 200000230) FROM account;

ALTER TABLE key_pair ADD COLUMN id TEXT NOT NULL DEFAULT '';                -- of the key; a rotated pair keeps its id while it is accepted
ALTER TABLE key_pair ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE key_pair ADD COLUMN is_default BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE key_pair ADD COLUMN replaced BOOLEAN NOT NULL DEFAULT FALSE;    -- by a newer pair of the same id
ALTER TABLE key_pair ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;       -- 0: never
ALTER TABLE key_pair ADD COLUMN used_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE key_pair ADD COLUMN used_ip TEXT NOT NULL DEFAULT '';
UPDATE key_pair SET id = 'key-' || lower(substr(public_key, 1, 14)), is_default = TRUE;
CREATE INDEX key_pair_id ON key_pair (id);

CREATE TABLE session (
    id         TEXT   PRIMARY KEY, -- SHA-256 of the token
    account    BIGINT NOT NULL REFERENCES account (id),
    client_ip  TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL
);
CREATE INDEX session_account ON session (account, created_at);
CREATE INDEX session_seen ON session (seen_at);

-- Logins that wait for a second factor.
CREATE TABLE pending_login (
    id         TEXT   PRIMARY KEY, -- SHA-256 of the nonce
    account    BIGINT NOT NULL REFERENCES account (id),
    factors    TEXT   NOT NULL,    -- TOTP, Email; comma separated
    attempts   BIGINT NOT NULL,
    grant_text TEXT   NOT NULL,    -- what the login was for, by whoever began it
    expires_at BIGINT NOT NULL
);
CREATE INDEX pending_login_expires ON pending_login (expires_at);
CREATE INDEX pending_login_account ON pending_login (account);

-- Consecutive wrong passwords of what was typed as an e-mail, whether there is such an account or not.
CREATE TABLE login_failure (
    name       TEXT   PRIMARY KEY, -- SHA-256 of the e-mail
    failures   BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX login_failure_updated ON login_failure (updated_at);

-- Mailed codes and links.
CREATE TABLE verification (
    purpose    TEXT   NOT NULL,
    name       TEXT   NOT NULL, -- SHA-256 of the e-mail
    code       TEXT   NOT NULL, -- keyed hash; empty: used
    token      TEXT   NOT NULL, -- SHA-256 of the link's token, or of what CheckVerificationCode gave; empty: none
    attempts   BIGINT NOT NULL,
    sent_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL, -- of the code
    token_until BIGINT NOT NULL,
    PRIMARY KEY (purpose, name)
);
CREATE INDEX verification_token ON verification (token);
CREATE INDEX verification_sent ON verification (sent_at);

CREATE TABLE totp (
    account    BIGINT PRIMARY KEY REFERENCES account (id),
    secret     TEXT   NOT NULL, -- sealed
    bound      BOOLEAN NOT NULL, -- else applied for
    kind       TEXT   NOT NULL, -- Software, Hardware
    serial     TEXT   NOT NULL,
    step       BIGINT NOT NULL, -- the last one accepted: a code works once
    expires_at BIGINT NOT NULL, -- of the application
    bound_at   BIGINT NOT NULL
);

-- +goose Down
DROP TABLE totp;
DROP TABLE verification;
DROP TABLE login_failure;
DROP TABLE pending_login;
DROP TABLE session;
DROP TABLE identity_counter;
DROP TABLE tenant_region;
DROP TABLE account_region;
DROP INDEX key_pair_id;
ALTER TABLE tenant DROP COLUMN allow_list_at;
ALTER TABLE tenant DROP COLUMN allow_list;
ALTER TABLE tenant DROP COLUMN auto_approval;
ALTER TABLE tenant DROP COLUMN approval;
ALTER TABLE tenant DROP COLUMN remark;
ALTER TABLE account DROP COLUMN login_ip;
ALTER TABLE account DROP COLUMN login_at;
ALTER TABLE account DROP COLUMN frozen_until;
ALTER TABLE account DROP COLUMN must_change;
ALTER TABLE account DROP COLUMN password_at;
ALTER TABLE account DROP COLUMN allow_list;
ALTER TABLE account DROP COLUMN oauth_id;
ALTER TABLE account DROP COLUMN language;
ALTER TABLE account DROP COLUMN phone;
ALTER TABLE account DROP COLUMN read_only;
ALTER TABLE account DROP COLUMN level;
ALTER TABLE key_pair DROP COLUMN used_ip;
ALTER TABLE key_pair DROP COLUMN used_at;
ALTER TABLE key_pair DROP COLUMN expires_at;
ALTER TABLE key_pair DROP COLUMN replaced;
ALTER TABLE key_pair DROP COLUMN is_default;
ALTER TABLE key_pair DROP COLUMN name;
ALTER TABLE key_pair DROP COLUMN id;

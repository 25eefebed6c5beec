-- +goose Up
-- Applications that log in with accounts of the platform.
CREATE TABLE oauth_client (
    id            TEXT   PRIMARY KEY,
    name          TEXT   NOT NULL,
    remark        TEXT   NOT NULL,
    secret_hash   TEXT   NOT NULL, -- SHA-256, hex: secrets are random
    redirect_uris TEXT   NOT NULL, -- JSON array
    state         TEXT   NOT NULL, -- Enabled, Disabled
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);

-- A request for authorization, and the code that answers it.
CREATE TABLE oauth_request (
    id           TEXT   PRIMARY KEY,
    client_id    TEXT   NOT NULL,
    account      BIGINT NOT NULL, -- 0: nobody has logged in yet
    redirect_uri TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    nonce        TEXT   NOT NULL,
    scopes       TEXT   NOT NULL, -- space separated
    challenge    TEXT   NOT NULL, -- PKCE, S256; empty: made by CreateOAuthCode
    code_hash    TEXT   NOT NULL, -- empty: no code yet
    authed_at    BIGINT NOT NULL,
    used_at      BIGINT NOT NULL, -- of the code
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL
);
CREATE INDEX oauth_request_code ON oauth_request (code_hash);
CREATE INDEX oauth_request_end ON oauth_request (expires_at);

CREATE TABLE oauth_token (
    id         TEXT   PRIMARY KEY,
    kind       TEXT   NOT NULL, -- access, refresh
    hash       TEXT   NOT NULL, -- of a refresh token
    family     TEXT   NOT NULL, -- the request that all came from: they end together
    client_id  TEXT   NOT NULL,
    account    BIGINT NOT NULL,
    scopes     TEXT   NOT NULL,
    authed_at  BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL  -- revoked or replaced
);
CREATE INDEX oauth_token_hash ON oauth_token (hash);
CREATE INDEX oauth_token_family ON oauth_token (family);
CREATE INDEX oauth_token_end ON oauth_token (expires_at);

-- What identity tokens are signed with.
CREATE TABLE oauth_key (
    id         TEXT   PRIMARY KEY,
    private    TEXT   NOT NULL, -- PKCS 8, sealed
    created_at BIGINT NOT NULL
);

-- The company's own provider (one row), and logins that went there.
CREATE TABLE oauth_foreign (
    id     BIGINT PRIMARY KEY,
    config TEXT   NOT NULL -- JSON, sealed
);
CREATE TABLE oauth_login (
    state_hash   TEXT   PRIMARY KEY,
    verifier     TEXT   NOT NULL, -- PKCE, sealed
    redirect_uri TEXT   NOT NULL,
    expires_at   BIGINT NOT NULL
);
-- +goose Down
DROP TABLE oauth_login;
DROP TABLE oauth_foreign;
DROP TABLE oauth_key;
DROP TABLE oauth_token;
DROP TABLE oauth_request;
DROP TABLE oauth_client;

-- +goose Up
ALTER TABLE vm ADD COLUMN boot_devices TEXT NOT NULL DEFAULT 'hd'; -- in their order, comma separated
ALTER TABLE vm ADD COLUMN rescue_id TEXT NOT NULL DEFAULT '';      -- image that it boots from in rescue mode
ALTER TABLE vm ADD COLUMN installs BIGINT NOT NULL DEFAULT 0;      -- how often its system was installed anew
ALTER TABLE vm ADD COLUMN revived BIGINT NOT NULL DEFAULT 0;       -- starts by the cloud itself, since revived_at
ALTER TABLE vm ADD COLUMN revived_at BIGINT NOT NULL DEFAULT 0;

-- Discs in machines' drives.
CREATE TABLE vm_iso (
    vm_id    TEXT NOT NULL,
    slot     TEXT NOT NULL, -- sda, sdb
    image_id TEXT NOT NULL,
    PRIMARY KEY (vm_id, slot)
);
CREATE INDEX vm_iso_image ON vm_iso (image_id);

CREATE TABLE keypair (
    id          TEXT PRIMARY KEY,
    region      TEXT NOT NULL,
    company     BIGINT NOT NULL,
    project     TEXT NOT NULL,
    name        TEXT NOT NULL,
    remark      TEXT NOT NULL,
    public_key  TEXT NOT NULL, -- a line of authorized_keys, without a comment
    kind        TEXT NOT NULL, -- ssh-ed25519, ssh-rsa, ...
    fingerprint TEXT NOT NULL, -- SHA256:...
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);
CREATE INDEX keypair_list ON keypair (region, company, created_at, id);

CREATE TABLE vm_keypair (
    vm_id      TEXT NOT NULL,
    keypair_id TEXT NOT NULL,
    PRIMARY KEY (vm_id, keypair_id)
);
CREATE INDEX vm_keypair_pair ON vm_keypair (keypair_id);

-- Who may connect to a machine's screen or serial port.
CREATE TABLE console_session (
    id         TEXT PRIMARY KEY,
    vm_id      TEXT NOT NULL,
    region     TEXT NOT NULL,
    company    BIGINT NOT NULL,
    kind       TEXT NOT NULL,   -- VNC, Serial
    ticket     TEXT NOT NULL,   -- SHA-256 of what the URL holds, hex; empty: none
    password   TEXT NOT NULL,   -- of VNC, sealed
    created_at BIGINT NOT NULL,
    expire_at  BIGINT NOT NULL, -- it must have connected until then
    used_at    BIGINT NOT NULL  -- connected; 0: not yet
);
CREATE UNIQUE INDEX console_session_ticket ON console_session (ticket);
CREATE INDEX console_session_expire ON console_session (expire_at);

-- +goose Down
DROP TABLE console_session;
DROP TABLE vm_keypair;
DROP TABLE keypair;
DROP TABLE vm_iso;
ALTER TABLE vm DROP COLUMN revived_at;
ALTER TABLE vm DROP COLUMN revived;
ALTER TABLE vm DROP COLUMN installs;
ALTER TABLE vm DROP COLUMN rescue_id;
ALTER TABLE vm DROP COLUMN boot_devices;

-- +goose Up
-- The chassis that carries the gateway. It stays where it is until that host is declared down: a host
-- that returns must not take it back, since every move interrupts what goes through it.
ALTER TABLE gateway ADD COLUMN chassis TEXT NOT NULL DEFAULT '';

-- Why the last change was taken back: the code, which lists translate, beside the detail in reason.
ALTER TABLE eip ADD COLUMN reason_code BIGINT NOT NULL DEFAULT 0;
ALTER TABLE security_group ADD COLUMN reason_code BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE security_group DROP COLUMN reason_code;
ALTER TABLE eip DROP COLUMN reason_code;
ALTER TABLE gateway DROP COLUMN chassis;

-- +goose Up
ALTER TABLE vip ADD COLUMN auto_renew BOOLEAN NOT NULL DEFAULT FALSE;
-- Until now interfaces on every segment were offered their addresses by DHCP; those that are there go on being offered.
UPDATE segment SET dhcp = TRUE;

-- +goose Down
ALTER TABLE vip DROP COLUMN auto_renew;
